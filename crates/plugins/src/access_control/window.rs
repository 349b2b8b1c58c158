//! Times of the week.

/// As settings name them; the epoch began on the fourth.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const DAY: i64 = 24 * 60;

/// Days and a span of the day. One that ends before it begins goes on into the next day, and belongs to the day it began on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// By place in [`DAYS`]; all if none.
    days: [bool; 7],
    from: i64,
    /// Up to this minute of the day, which is not part of it.
    until: i64,
}

impl Window {
    /// None when nothing is limited.
    pub fn new(days: Option<&[String]>, from: Option<&str>, until: Option<&str>) -> Option<Self> {
        if days.is_none() && from.is_none() && until.is_none() {
            return None;
        }
        let named = |day: &str| days.is_none_or(|days| days.iter().any(|named| named == day));
        let minute = |text: Option<&str>, fallback| text.and_then(minute_of).unwrap_or(fallback);
        Some(Self { days: DAYS.map(named), from: minute(from, 0), until: minute(until, DAY) })
    }

    /// Whether a moment lies in it, in minutes since the epoch, local time.
    pub fn contains(&self, minutes: i64) -> bool {
        let (day, minute) = (minutes.div_euclid(DAY), minutes.rem_euclid(DAY));
        let is_day = |day: i64| self.days[(day + 3).rem_euclid(7) as usize];
        if self.from <= self.until {
            return is_day(day) && (self.from..self.until).contains(&minute);
        }
        minute >= self.from && is_day(day) || minute < self.until && is_day(day - 1)
    }
}

/// The minute of the day that `HH:MM` names; `24:00` is its end.
pub fn minute_of(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let digits =
        |text: &str| if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<i64>().ok() } else { None };
    let minute = digits(hours)? * 60 + digits(minutes).filter(|minutes| *minutes < 60)?;
    (minute <= DAY).then_some(minute)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Minutes since the epoch of a time on Saturday, 2026-01-31.
    fn saturday(hours: i64, minutes: i64) -> i64 {
        20_484 * DAY + hours * 60 + minutes
    }

    #[test]
    fn times_of_day_are_read() {
        assert_eq!(["00:00", "09:30", "24:00"].map(minute_of), [Some(0), Some(570), Some(1440)]);
        assert_eq!(["24:01", "9:30", "09:60", "", "0930", "-1:00", "+9:00"].map(minute_of), [None; 7]);
    }

    #[test]
    fn a_span_within_a_day() {
        let days = ["sat".to_owned()];
        let window = Window::new(Some(&days), Some("09:00"), Some("17:00")).unwrap();
        let inside = [saturday(8, 59), saturday(9, 0), saturday(16, 59), saturday(17, 0), saturday(9, 0) + DAY];
        assert_eq!(inside.map(|minutes| window.contains(minutes)), [false, true, true, false, false]);
    }

    #[test]
    fn a_span_over_midnight_belongs_to_the_day_it_began_on() {
        let days = ["fri".to_owned()];
        let window = Window::new(Some(&days), Some("22:00"), Some("06:00")).unwrap();
        let inside = [saturday(0, 0), saturday(5, 59), saturday(6, 0), saturday(22, 0), saturday(0, 0) - 120, saturday(5, 0) - DAY];
        assert_eq!(inside.map(|minutes| window.contains(minutes)), [true, true, false, false, true, false]);
    }

    #[test]
    fn nothing_given_is_no_window_and_days_alone_are_whole_days() {
        assert_eq!(Window::new(None, None, None), None);
        let days = ["sat".to_owned(), "sun".to_owned()];
        let window = Window::new(Some(&days), None, None).unwrap();
        assert_eq!([saturday(0, 0) - 1, saturday(0, 0), saturday(23, 59)].map(|minutes| window.contains(minutes)), [false, true, true]);
    }
}
