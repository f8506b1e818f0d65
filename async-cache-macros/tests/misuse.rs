//! Misuse causes an understandable compile error. After a change of the wording or of the compiler, run
//! `TRYBUILD=overwrite cargo test -p async-cache-macros --test misuse`, and read the difference.

#[test]
fn misuse_reads_well() {
    trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
}
