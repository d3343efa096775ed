//! Amounts of CPU and memory as whole numbers: thousandths of a core and bytes.

/// No amount is larger; more saturates.
pub const MOST: i64 = 100_000_000_000_000;

/// CPU and memory, each present only where it is recommended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_milli: Option<i64>,
    pub memory_bytes: Option<i64>,
}

/// Truncated, and between nothing and [`MOST`].
pub fn from_float(amount: f64) -> i64 {
    if amount < 0.0 {
        0
    } else if amount > MOST as f64 {
        MOST
    } else {
        // The cast takes NaN for zero.
        amount as i64
    }
}

pub fn cpu_from_cores(cores: f64) -> i64 {
    from_float(cores * 1000.0)
}

pub fn cores(cpu_milli: i64) -> f64 {
    cpu_milli as f64 / 1000.0
}

pub fn scale(amount: i64, factor: f64) -> i64 {
    from_float(amount as f64 * factor)
}

/// The next multiple of `step`.
pub fn round_up(amount: i64, step: i64) -> Result<i64, &'static str> {
    if step <= 0 {
        return Err("scale must be greater than zero");
    }
    Ok((amount / step + i64::from(amount % step != 0)).saturating_mul(step))
}

impl Amounts {
    /// Each amount through `change`, which is told whether it is memory.
    pub fn map(self, change: impl Fn(bool, i64) -> i64) -> Amounts {
        Amounts {
            cpu_milli: self.cpu_milli.map(|amount| change(false, amount)),
            memory_bytes: self.memory_bytes.map(|amount| change(true, amount)),
        }
    }
}
