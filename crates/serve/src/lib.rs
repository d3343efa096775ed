//! Listeners, TLS and its reload, limits, drain, metrics and health: the way any service of ours reaches a socket.
