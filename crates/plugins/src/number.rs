//! Numbers as header text.

/// A number as Kong prints one: whole numbers without a point, others with up to 14 significant digits.
pub fn text(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return (number as i64).to_string();
    }
    let magnitude = number.abs().log10().floor() as i32;
    if !(-5..15).contains(&magnitude) {
        return format!("{number:e}");
    }
    let decimals = (13 - magnitude).max(0) as usize;
    let fixed = format!("{number:.decimals$}");
    if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.').to_owned() } else { fixed }
}

/// A number in JSON: whole ones without a point.
pub fn json(number: f64) -> serde_json::Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { (number as i64).into() } else { number.into() }
}

/// Digits of a whole number on the stack.
pub struct Digits {
    buffer: [u8; 20],
    start: usize,
}

impl Digits {
    pub fn of(mut number: u64) -> Self {
        let mut digits = Digits { buffer: [0; 20], start: 20 };
        loop {
            digits.start -= 1;
            digits.buffer[digits.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return digits;
            }
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_kong() {
        for (number, want) in
            [(60.0, "60"), (0.5, "0.5"), (100.5, "100.5"), (0.1 + 0.2, "0.3"), (-3.0, "-3"), (1.0 / 3.0, "0.33333333333333")]
        {
            assert_eq!(text(number), want);
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 7, 10, 999, 1_000_000, u64::MAX] {
            assert_eq!(Digits::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
