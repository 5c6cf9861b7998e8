//! A process that dies between any two calls loses nothing that was acknowledged.
