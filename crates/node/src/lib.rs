//! What every node shares: identity, serving, registration, heartbeat, probe, HTTP client
