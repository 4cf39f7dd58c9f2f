use anyhow::Result;

use super::Tables;

/// Something that must not be, with each case of it.
#[derive(Debug)]
pub(in crate::inbox) struct Finding {
    pub(in crate::inbox) what: &'static str,
    pub(in crate::inbox) cases: Vec<String>,
}

/// What must not be, and the statement that finds it; the same on every database.
const QUESTIONS: [(&str, &str); 11] = [
    (
        "lost: expected and never applied",
        "SELECT concat(e.id, ', n ', e.n, ' of ', e.name) AS what FROM expected e LEFT JOIN applied a ON a.id = e.id \
         WHERE a.id IS NULL ORDER BY e.name, e.n",
    ),
    (
        "applied more than once",
        "SELECT concat(a.id, ', ', a.times, ' times') AS what FROM applied a WHERE a.times <> 1",
    ),
    (
        "applied and never expected",
        "SELECT a.id AS what FROM applied a LEFT JOIN expected e ON e.id = a.id WHERE e.id IS NULL",
    ),
    (
        "out of order",
        "SELECT concat(f.id, ', n ', e.n, ' of ', e.name, ' at place ', f.place, ' of ', f.name) AS what FROM effects f \
         JOIN expected e ON e.id = f.id WHERE e.n <> f.place OR e.name <> f.name OR e.n <> f.n ORDER BY f.name, f.place",
    ),
    (
        "without exactly one row in the log",
        "SELECT concat(e.id, ', ', count(f.id), ' rows') AS what FROM expected e LEFT JOIN effects f ON f.id = e.id \
         GROUP BY e.id HAVING count(f.id) <> 1",
    ),
    (
        "a key whose counter is not its messages",
        "SELECT concat(k.name, ' counts ', k.n) AS what FROM key_counters k \
         WHERE k.n <> (SELECT count(*) FROM expected e WHERE e.name = k.name)",
    ),
    ("still held", "SELECT concat(h.id, ' is ', h.status, ', attempts ', h.attempts) AS what FROM inbox_held h"),
    ("a dead letter", "SELECT concat(d.id, ' is ', d.reason, ': ', d.error) AS what FROM inbox_dead_letters d"),
    ("a key that is still parked", "SELECT concat('one by ', p.reason) AS what FROM inbox_parked_keys p"),
    (
        "without a dedup row that says processed",
        // by its whole key, which is the only index that it has
        "SELECT e.id AS what FROM expected e LEFT JOIN inbox_messages m ON m.consumer = 'fault-run-consumer' \
         AND m.source = '/fault-run' AND m.id = e.id AND m.status = 'processed' WHERE m.id IS NULL",
    ),
    (
        "a dedup row too many",
        "SELECT m.id AS what FROM inbox_messages m LEFT JOIN expected e ON e.id = m.id WHERE e.id IS NULL",
    ),
];

/// A shared counter that each message must have raised by one.
const SHARED: &str = "SELECT concat(s.name, ' is ', s.n) AS what FROM shared_counters s \
    WHERE s.n <> (SELECT count(*) FROM expected)";

/// Asks for everything that must not be; `shared` counters too where handlers raise them. What was found.
pub(in crate::inbox) async fn findings(tables: &mut dyn Tables, shared: bool) -> Result<Vec<Finding>> {
    let of_shared = shared.then_some(("a wrong sum of a shared counter", SHARED));
    let mut findings = Vec::new();
    for (what, sql) in QUESTIONS.into_iter().chain(of_shared) {
        let cases = tables.texts(sql).await?;
        if !cases.is_empty() {
            findings.push(Finding { what, cases });
        }
    }
    Ok(findings)
}
