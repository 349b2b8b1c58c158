//! The fixture shared by the black-box suites.
