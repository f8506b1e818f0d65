//! Misuse is a compile error that a person understands. After a change of wording, or of compiler:
//! `TRYBUILD=overwrite cargo test -p async-cache-macros --test misuse`, and read the difference.

#[test]
fn misuse_reads_well() {
    trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
}
