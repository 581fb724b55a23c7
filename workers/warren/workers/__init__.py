"""Workers: what runs plugins on a bus, and the command line.

    worker       the path of a message: consume, run, publish, ack      outcomes   what follows from how a run ended
    served, mailbox     which plugins are served, and how a queue is    elsewhere  calls of plugins that are not here
    spans, metrics, guest_logs, telemetry   what can be seen of it      supervisor  processes, signals, exit codes
    control, orders, announcing   questions and orders over the broker   roster, passing   who else has which versions
    pulse, vitals   how each process says it is, and what was heard     health      probes and scrapes over HTTP
    rollout, trial, rollouts, routes, sticky, shadows   new versions    differences where two answers differ
    embedded     a worker, a memory bus and a client in one process     cli         the command `warren`

This package puts the others together: it knows the bus, the manifests and the plugins, and none of them knows it.
"""
