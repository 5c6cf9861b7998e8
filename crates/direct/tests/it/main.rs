//! Direct uploads, on real services.
