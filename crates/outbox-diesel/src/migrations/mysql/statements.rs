/// The statements of a migration's SQL: each ends with a line that ends with a semicolon and is no comment.
pub(super) fn statements(sql: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut statement = String::new();
    for line in sql.lines().filter(|line| !line.trim_start().starts_with("--") && !line.trim().is_empty()) {
        match line.trim_end().strip_suffix(';') {
            Some(last) => {
                statement.push_str(last);
                all.push(std::mem::take(&mut statement));
            }
            None => {
                statement.push_str(line);
                statement.push('\n');
            }
        }
    }
    debug_assert!(statement.is_empty(), "a migration ends with a semicolon");
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::Backend;

    #[test]
    fn comments_and_their_semicolons_are_no_statements() {
        let sql = "-- One; two;\nCREATE TABLE a (\n    -- why;\n    b int\n);\n\nDROP TABLE c;\n";
        assert_eq!(statements(sql), ["CREATE TABLE a (\n    b int\n)", "DROP TABLE c"]);
    }

    #[test]
    fn every_statement_of_mysql_can_be_run_again() {
        for migration in Backend::Mysql.migrations() {
            for (sql, count) in [(migration.up, migration.up.matches(";\n").count()), (migration.down, 5)] {
                let found = statements(sql);
                assert!(!found.is_empty() && found.len() <= count);
                for statement in found {
                    let again = ["IF NOT EXISTS", "IF EXISTS", "ON DUPLICATE KEY UPDATE"];
                    assert!(again.iter().any(|word| statement.contains(word)), "{statement}");
                }
            }
        }
    }
}
