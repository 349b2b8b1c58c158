//! Moments as text.

/// Seconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub u64);

impl Moment {
    /// `2026-01-31T00:01:00Z`.
    pub fn rfc3339(self) -> String {
        let (year, month, day) = civil((self.0 / 86_400) as i64);
        let seconds = self.0 % 86_400;
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

/// Days since 1970-01-01 as a date of the Gregorian calendar, counted in 400-year eras from 1 March 0000.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * month_index + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn moments_are_written_as_internet_times() {
        assert_eq!(Moment(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Moment(951_827_696).rfc3339(), "2000-02-29T12:34:56Z");
    }
}
