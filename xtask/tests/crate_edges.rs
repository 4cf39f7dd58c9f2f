//! Dependencies between the crates of the workspace point one way:
//! core ← {diesel, kafka, amqp, inbox} ← facade ← {cli, bench}; the test kit stands on the core alone.

use xtask::metadata::{Kind, Package, packages};

/// What each crate may depend on in the workspace: `(crate, in the product, in addition for its tests)`.
const ALLOWED: [(&str, &[&str], &[&str]); 11] = [
    ("outbox-core", &[], &[]),
    // the simulation of the inbox drives its engine
    ("outbox-testkit", &["outbox-core", "outbox-inbox"], &[]),
    ("outbox-diesel", &["outbox-core"], &["outbox-inbox", "outbox-testkit"]),
    ("outbox-kafka", &["outbox-core"], &["outbox-inbox", "outbox-testkit"]),
    ("outbox-amqp", &["outbox-core"], &["outbox-inbox", "outbox-testkit"]),
    ("outbox-inbox", &["outbox-core"], &["outbox-testkit"]),
    ("outbox", &["outbox-core", "outbox-diesel", "outbox-kafka", "outbox-amqp", "outbox-inbox"], &["outbox-testkit"]),
    ("outbox-cli", &["outbox"], &["outbox-testkit"]),
    ("outbox-bench", &["outbox"], &["outbox-testkit"]),
    ("outbox-faults", &["outbox", "xtask"], &[]),
    ("xtask", &[], &[]),
];
/// How the names of programs below `examples/` begin.
const EXAMPLE: &str = "example-";
/// They use the facade, and the core and the test kit to implement a port.
const ALLOWED_IN_EXAMPLES: &[&str] = &["outbox", "outbox-core", "outbox-testkit"];

#[test]
fn edges_between_crates_point_one_way() {
    let packages = packages().expect("cargo metadata answers");
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let wrong: Vec<String> = packages.iter().flat_map(|package| wrong_edges(package, &names)).collect();
    assert!(wrong.is_empty(), "wrong edges:\n{}", wrong.join("\n"));
}

#[test]
fn every_crate_of_the_design_is_in_the_workspace() {
    let packages = packages().expect("cargo metadata answers");
    for (name, ..) in ALLOWED {
        assert!(packages.iter().any(|package| package.name == name), "{name} is missing");
    }
}

#[test]
fn an_edge_between_adapters_is_wrong() {
    let package = package("outbox-kafka", r#"[{"name": "outbox-diesel", "kind": null}]"#);
    assert_eq!(wrong_edges(&package, &["outbox-diesel"]).len(), 1);
}

#[test]
fn a_crate_that_nobody_decided_on_is_wrong_and_an_example_right() {
    let facade = r#"[{"name": "outbox", "kind": null}]"#;
    assert_eq!(wrong_edges(&package("outbox-new", facade), &["outbox"]).len(), 1);
    assert!(wrong_edges(&package("example-orders", facade), &["outbox"]).is_empty());
}

#[test]
fn the_test_kit_in_an_adapters_product_is_wrong_and_in_its_tests_right() {
    let product = package("outbox-diesel", r#"[{"name": "outbox-testkit", "kind": null}]"#);
    assert_eq!(wrong_edges(&product, &["outbox-testkit"]).len(), 1);
    let tests = package("outbox-diesel", r#"[{"name": "outbox-testkit", "kind": "dev"}]"#);
    assert!(wrong_edges(&tests, &["outbox-testkit"]).is_empty());
}

fn wrong_edges(package: &Package, workspace: &[&str]) -> Vec<String> {
    let known = ALLOWED.iter().find(|(name, ..)| *name == package.name);
    let (product, tests): (&[&str], &[&str]) = match known {
        Some((_, product, tests)) => (product, tests),
        None if package.name.starts_with(EXAMPLE) => (ALLOWED_IN_EXAMPLES, &[]),
        None => return vec![format!("{}: say in ALLOWED what it may depend on", package.name)],
    };
    package
        .dependencies
        .iter()
        .filter(|dependency| workspace.contains(&dependency.name.as_str()))
        .filter(|dependency| {
            let to = dependency.name.as_str();
            !(product.contains(&to) || dependency.kind == Kind::Dev && tests.contains(&to))
        })
        .map(|dependency| format!("{} -> {} ({:?})", package.name, dependency.name, dependency.kind))
        .collect()
}

fn package(name: &str, dependencies: &str) -> Package {
    serde_json::from_str(&format!(r#"{{"name": "{name}", "features": {{}}, "dependencies": {dependencies}}}"#))
        .expect("a package")
}
