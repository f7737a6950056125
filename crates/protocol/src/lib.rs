//! Every message on the wire: typed ids, requests, replies, events, error codes
