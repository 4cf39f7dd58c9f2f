use std::fmt;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{Measurement, Report, Target};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            f,
            "{} cores ({}), PostgreSQL {}, librdkafka {}",
            machine.cores, machine.processor, machine.postgres, machine.librdkafka
        )?;
        self.measurements.iter().try_for_each(|measurement| measurement.fmt(f))
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n({}) {}", self.letter, self.title)?;
        let mut figures = table(&["variant", "measure", "median", "min", "max"]);
        for figure in &self.figures {
            let mut row = vec![Cell::new(&figure.variant), Cell::new(figure.measure.label())];
            row.extend([figure.median(), figure.min(), figure.max()].map(right));
            figures.add_row(row);
        }
        writeln!(f, "{figures}")?;
        if self.verdicts.is_empty() {
            return Ok(());
        }
        let mut verdicts = table(&["judged", "value", "target", ""]);
        for verdict in &self.verdicts {
            let (target, met) = match verdict.target {
                Some(target) => (show(target), if target.is_met_by(verdict.value) { "met" } else { "missed" }),
                None => (String::new(), ""),
            };
            verdicts.add_row(vec![
                Cell::new(&verdict.name),
                right(verdict.value),
                Cell::new(target).set_alignment(CellAlignment::Right),
                Cell::new(met),
            ]);
        }
        writeln!(f, "{verdicts}")
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

fn right(value: f64) -> Cell {
    Cell::new(number(value)).set_alignment(CellAlignment::Right)
}

fn show(target: Target) -> String {
    match target {
        Target::AtLeast(least) => format!("≥ {}", number(least)),
        Target::AtMost(most) => format!("≤ {}", number(most)),
    }
}

/// A number with three significant digits below a thousand, and thousands set apart above.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    match value.abs() {
        size if size >= 999.5 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index) % 3 == 0 && !text.ends_with('-') {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_or_thousands_set_apart() {
        for (value, text) in
            [(0.123, "0.12"), (12.34, "12.3"), (999.0, "999"), (203_456.7, "203,457"), (1e6, "1,000,000")]
        {
            assert_eq!(number(value), text);
        }
    }
}
