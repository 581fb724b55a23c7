"""What Redis runs for a storage: each of these is one step for everybody else who looks.

The keys of a plugin, which lie in one slot of a cluster:

    warren:storage:{<plugin>}:values    hash         the values, by key
    warren:storage:{<plugin>}:keys      sorted set   the keys, all with score 0, and so in the order of their bytes
    warren:storage:{<plugin>}:expiry    sorted set   the keys that expire, by when, in ms since the epoch
    warren:storage:{<plugin>}:bytes     string       what all of it counts

What has expired is deleted by the plugin's next writes; and where all that a plugin has will expire, Redis is told to
delete it together, with the last of it, since the plugin may never write again.

(Rejected: a Redis key for each entry, expired by Redis. Nobody would take what expires off the count, and listing would
have to look through the whole database.) The clock is that of the server. Nothing here is newer than Redis 5.
"""

from __future__ import annotations

from typing import Final

from .port import ENTRY_BYTES

PARTS: Final = ("values", "keys", "expiry", "bytes")

#: Expired entries that a write deletes in passing, and at a time when it makes room for itself: as in `sqlite`. While
#: it runs the server does nothing else, so that it stops when there is room.
_PURGED: Final = 100

_HEAD: Final = """
local values, keys, expiry, counter = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function is_there(key)
    local expires = redis.call('ZSCORE', expiry, key)
    return redis.call('HEXISTS', values, key) == 1 and not (expires and tonumber(expires) <= now)
end
"""

#: ARGV: key. Gives the value, or nil.
GET: Final = f"""{_HEAD}
return is_there(ARGV[1]) and redis.call('HGET', values, ARGV[1])
"""

#: ARGV: first key, end of keys, how many entries to look at. Gives the keys, and the last one looked at if there are
#: more, or nil.
LIST: Final = f"""{_HEAD}
local limit = tonumber(ARGV[3])
local found = redis.call('ZRANGEBYLEX', keys, '[' .. ARGV[1], '(' .. ARGV[2], 'LIMIT', 0, limit + 1)
local after = #found > limit and found[limit]
local page = {{}}
for index = 1, math.min(#found, limit) do
    if is_there(found[index]) then
        table.insert(page, found[index])
    end
end
return {{page, after}}
"""

#: ARGV: key, value (empty: delete), quota, TTL in ms (empty: none), whether it has to be as expected (1 or 0), what is
#: expected (empty: nothing). Gives what came of it; whether there was an entry; the value if it was not what was
#: expected, the bytes there would be if they are too many.
WRITE: Final = f"""{_HEAD}
local key, value, quota, ttl, conditional, expected = unpack(ARGV)

local function used()
    return tonumber(redis.call('GET', counter) or 0)
end

local function delete(name)
    local size = redis.call('HSTRLEN', values, name) + #name + {ENTRY_BYTES}
    redis.call('HDEL', values, name)  -- first: a server that is out of memory lets a script begin with no DECRBY
    redis.call('ZREM', keys, name)
    redis.call('ZREM', expiry, name)
    redis.call('DECRBY', counter, size)
end

local function purge()
    local expired = redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, {_PURGED})
    for _, name in ipairs(expired) do
        delete(name)
    end
    return #expired > 0
end

purge()
local existed = is_there(key)
local current = existed and redis.call('HGET', values, key) or ''
if conditional == '1' and current ~= expected then
    return {{'differs', existed and 1 or 0, current}}
end
local before = 0
if redis.call('HEXISTS', values, key) == 1 then
    before = #key + redis.call('HSTRLEN', values, key) + {ENTRY_BYTES}
end
if value ~= '' then
    local growth = #key + #value + {ENTRY_BYTES} - before
    while growth > 0 and used() + growth > quota + 0 and purge() do
        if before > 0 and redis.call('HEXISTS', values, key) == 0 then  -- it had expired itself
            growth, before = growth + before, 0
        end
    end
    if growth > 0 and used() + growth > quota + 0 then
        return {{'too much', existed and 1 or 0, used() + growth}}
    end
end
if before > 0 then
    delete(key)
end
if value ~= '' then
    redis.call('HSET', values, key, value)
    redis.call('ZADD', keys, 0, key)
    if ttl ~= '' then
        redis.call('ZADD', expiry, now + ttl, key)
    end
    redis.call('INCRBY', counter, #key + #value + {ENTRY_BYTES})
elseif used() == 0 then
    redis.call('DEL', counter)
end
local last = redis.call('ZREVRANGE', expiry, 0, 0, 'WITHSCORES')[2]
local is_for_good = redis.call('HLEN', values) > redis.call('ZCARD', expiry)
for _, part in ipairs(KEYS) do
    if is_for_good then
        redis.call('PERSIST', part)
    elseif last then
        redis.call('PEXPIREAT', part, last)
    end
end
return {{'done', existed and 1 or 0, ''}}
"""
