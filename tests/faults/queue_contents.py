"""What a node's queues hold at this moment.

`rabbitmqctl list_queues` tells of a quorum queue what was true up to five seconds ago: mostly nothing yet, where a test
asks. So the queues' leaders themselves are asked, by the functions with which RabbitMQ does it (the same from 3.8 on).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tests.broker import PrivateNode

_ASK: Final = """[begin
  {resource, _, queue, Name} = amqqueue:get_name(Q),
  Count = fun(Query) -> {ok, {_, N}, _} = ra:leader_query(amqqueue:get_pid(Q), Query), N end,
  case amqqueue:get_type(Q) of
    rabbit_quorum_queue ->
      {Name, Count(fun rabbit_fifo:query_messages_ready/1), Count(fun rabbit_fifo:query_messages_checked_out/1)};
    _ ->
      [{_, Ready}, {_, Unacked}] = rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged]),
      {Name, Ready, Unacked}
  end
end || Q <- rabbit_amqqueue:list(<<"/">>)]."""

_ANSWER: Final = re.compile(r'\{<<"([^"]*)">>,\s*(\d+),\s*(\d+)\}')


@dataclass(frozen=True, slots=True)
class Contents:
    """`unacked` are those that a consumer has, and has not settled."""

    ready: int
    unacked: int

    def __str__(self) -> str:
        return f"{self.ready} ready, {self.unacked} unacked"


async def queue_contents(node: PrivateNode, prefix: str) -> dict[str, Contents]:
    """Of each queue whose name begins with `prefix`. It takes the better part of a second."""
    answer = await node.ctl("eval", _ASK)
    found = {name: Contents(int(ready), int(unacked)) for name, ready, unacked in _ANSWER.findall(answer)}
    return {name: contents for name, contents in found.items() if name.startswith(prefix)}
