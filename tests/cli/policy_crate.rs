//! A policy in a crate of its own is built and run, by the public interface alone.

use std::fs;
use std::path::Path;

use super::*;

/// It is a copy, so that the Cargo.lock may be this one, less what the crate does not need, and no file comes into the repository.
/// What was built for the tests is used again as far as it is the same.
#[test]
fn a_policy_in_a_crate_of_its_own_decides() {
    let root = env!("CARGO_MANIFEST_DIR");
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let copy = tmp.join("policy-crate");
    let source = format!("{root}/tests/policy-crate");
    fs::create_dir_all(copy.join("src")).unwrap();
    // A file that is written anew is built anew.
    let put = |name: &str, text: String| {
        let path = copy.join(name);
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(path, text).unwrap();
        }
    };
    let read = |path: String| fs::read_to_string(path).unwrap();
    put("Cargo.toml", read(format!("{source}/Cargo.toml")).replace("\"../..\"", &format!("{root:?}")));
    put("src/main.rs", read(format!("{source}/src/main.rs")));
    fs::copy(format!("{root}/Cargo.lock"), copy.join("Cargo.lock")).unwrap();
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--offline", "--quiet", "--", EXAMPLE])
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", tmp.parent().unwrap())
        .output()
        .unwrap();
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    insta::assert_snapshot!(told, @r"
    tcp 192.168.122.1:40000 > 192.168.122.11:80: drop not-knocked
    udp 192.168.122.1:50000 > 192.168.122.11:7000: drop knocked
    tcp 192.168.122.1:40000 > 192.168.122.11:80: accept service
    tcp 192.168.122.2:40000 > 192.168.122.11:80: drop not-knocked
    tcp 192.168.122.1:40000 > 192.168.122.11:80: drop not-knocked
    there and back: tcp 192.168.122.1:40000 > 10.5.5.201:80
    ");
}
