//! The values of the directives.
