//! What is done with a ScaledObject's target after its triggers were read: between nothing, idle, and the minimum.
//! Between one and many the HorizontalPodAutoscaler decides.

/// Everything the decision looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    pub current: i32,
    pub min: Option<i32>,
    pub idle: Option<i32>,
    pub is_active: bool,
    /// A trigger could not be read.
    pub has_error: bool,
    pub is_scale_in_paused: bool,
    pub is_scale_out_paused: bool,
    pub now_ms: i64,
    pub created_ms: i64,
    pub last_active_ms: Option<i64>,
    pub cooldown_ms: i64,
    pub initial_cooldown_ms: i64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, and the time of activity stays.
    Hold,
    /// Nothing, but there is work.
    Busy,
    /// From nothing or idle to working.
    Activate(i32),
    /// To nothing or idle: there has been no work for long enough.
    Deactivate(i32),
    /// There is no work, but there was a short time ago; ends at this moment.
    CoolingDown { until_ms: i64 },
    /// A target below its minimum.
    RaiseToMin(i32),
}

pub fn step(of: &Situation) -> Step {
    let min = of.min.unwrap_or(0);
    if of.is_active {
        let wakes = of.current == 0 || (of.idle.is_some() && of.current < min);
        return match wakes {
            true if of.is_scale_out_paused => Step::Hold,
            true => Step::Activate(min.max(1)),
            false => Step::Busy,
        };
    }
    if of.has_error {
        // Nobody knows whether there is work; the fallback or the autoscaler keep what is there.
        return Step::Hold;
    }
    let rests_at = match of.idle {
        Some(idle) if of.current > idle => Some(idle),
        None if of.current > 0 && min == 0 => Some(0),
        _ => None,
    };
    if let Some(rest) = rests_at {
        if of.is_scale_in_paused {
            return Step::Hold;
        }
        let until_ms = match of.last_active_ms {
            Some(last) => last.saturating_add(of.cooldown_ms),
            None => of.created_ms.saturating_add(of.initial_cooldown_ms),
        };
        return if until_ms < of.now_ms { Step::Deactivate(rest) } else { Step::CoolingDown { until_ms } };
    }
    if of.idle.is_none() && of.current < min && !of.is_scale_out_paused {
        return Step::RaiseToMin(min);
    }
    Step::Hold
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(current: i32, is_active: bool) -> Situation {
        Situation {
            current,
            min: None,
            idle: None,
            is_active,
            has_error: false,
            is_scale_in_paused: false,
            is_scale_out_paused: false,
            now_ms: 1_000_000,
            created_ms: 0,
            last_active_ms: Some(0),
            cooldown_ms: 300_000,
            initial_cooldown_ms: 0,
        }
    }

    #[test]
    fn from_nothing_and_back() {
        assert_eq!(step(&at(0, true)), Step::Activate(1));
        assert_eq!(step(&Situation { min: Some(3), ..at(0, true) }), Step::Activate(3));
        assert_eq!(step(&at(4, true)), Step::Busy);
        assert_eq!(step(&at(4, false)), Step::Deactivate(0));
        assert_eq!(step(&at(0, false)), Step::Hold);
        let recent = Situation { last_active_ms: Some(900_000), ..at(4, false) };
        assert_eq!(step(&recent), Step::CoolingDown { until_ms: 1_200_000 });
    }

    #[test]
    fn the_initial_cooldown_counts_from_creation() {
        let fresh = Situation {
            last_active_ms: None,
            created_ms: 999_000,
            initial_cooldown_ms: 5_000,
            ..at(1, false)
        };
        assert_eq!(step(&fresh), Step::CoolingDown { until_ms: 1_004_000 });
        assert_eq!(step(&Situation { initial_cooldown_ms: 0, ..fresh }), Step::Deactivate(0));
    }

    #[test]
    fn idle_and_minimum() {
        let idle = Situation { idle: Some(0), min: Some(5), ..at(10, false) };
        assert_eq!(step(&idle), Step::Deactivate(0));
        assert_eq!(step(&Situation { current: 0, ..idle.clone() }), Step::Hold);
        assert_eq!(step(&Situation { current: 0, is_active: true, ..idle }), Step::Activate(5));
        assert_eq!(step(&Situation { min: Some(2), ..at(1, false) }), Step::RaiseToMin(2));
        assert_eq!(step(&Situation { min: Some(2), ..at(5, false) }), Step::Hold);
    }

    #[test]
    fn errors_and_pauses_hold() {
        assert_eq!(step(&Situation { has_error: true, ..at(4, false) }), Step::Hold);
        assert_eq!(step(&Situation { is_scale_in_paused: true, ..at(4, false) }), Step::Hold);
        assert_eq!(step(&Situation { is_scale_out_paused: true, ..at(0, true) }), Step::Hold);
    }
}
