//! Direct uploads, on real services.

mod books;
