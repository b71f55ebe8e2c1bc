//! TCP services: the rules of relaying between a WebSocket and a stream.
