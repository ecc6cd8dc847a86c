//! What a container claims and what a node has: CPU and memory.
//!
//! **Invariant**: arithmetic never wraps; what does not fit is said in the words of a person.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of CPU and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Billionths of a CPU, as Docker's `NanoCpus`.
    pub cpu_nanos: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Resources {
    /// Nothing at all: the claim of a container that asks for nothing.
    pub const ZERO: Self = Self {
        cpu_nanos: 0,
        memory_bytes: 0,
    };

    /// This much CPU and memory.
    pub const fn new(cpu_nanos: u64, memory_bytes: u64) -> Self {
        Self {
            cpu_nanos,
            memory_bytes,
        }
    }

    /// How much of one of them this is.
    pub const fn of(self, kind: Kind) -> u64 {
        match kind {
            Kind::Memory => self.memory_bytes,
            Kind::Cpu => self.cpu_nanos,
        }
    }

    /// The sum, or nothing if it cannot be represented.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            cpu_nanos: self.cpu_nanos.checked_add(other.cpu_nanos)?,
            memory_bytes: self.memory_bytes.checked_add(other.memory_bytes)?,
        })
    }

    /// The difference, or nothing if `other` is more in either.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Some(Self {
            cpu_nanos: self.cpu_nanos.checked_sub(other.cpu_nanos)?,
            memory_bytes: self.memory_bytes.checked_sub(other.memory_bytes)?,
        })
    }

    /// The sum, at most the largest amount there is.
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            cpu_nanos: self.cpu_nanos.saturating_add(other.cpu_nanos),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// The difference, at least zero in each.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self {
            cpu_nanos: self.cpu_nanos.saturating_sub(other.cpu_nanos),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }

    /// Whether `free` has this much of both.
    pub fn fits_in(self, free: Self) -> bool {
        self.cpu_nanos <= free.cpu_nanos && self.memory_bytes <= free.memory_bytes
    }

    /// What is missing when this is asked of a node that has `free` left of `capacity`; nothing if
    /// it fits. Memory is named before CPU: running out of it hurts more.
    pub fn shortfall(self, free: Self, capacity: Self) -> Option<Shortfall> {
        if self.memory_bytes > free.memory_bytes {
            Some(Shortfall {
                kind: Kind::Memory,
                need: self.memory_bytes,
                free: free.memory_bytes,
                of: capacity.memory_bytes,
            })
        } else if self.cpu_nanos > free.cpu_nanos {
            Some(Shortfall {
                kind: Kind::Cpu,
                need: self.cpu_nanos,
                free: free.cpu_nanos,
                of: capacity.cpu_nanos,
            })
        } else {
            None
        }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} and {}",
            Cpus(self.cpu_nanos),
            Memory(self.memory_bytes)
        )
    }
}

/// Which resource is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Memory, counted in bytes.
    Memory,
    /// CPU, counted in billionths.
    Cpu,
}

impl Kind {
    /// The amount as text: memory with its unit, CPUs as a bare number.
    pub fn amount(self, amount: u64) -> String {
        match self {
            Self::Memory => Memory(amount).to_string(),
            Self::Cpu => decimal(amount, 1_000_000_000, 2),
        }
    }

    /// What is needed, with a unit whatever the resource.
    pub fn need(self, amount: u64) -> String {
        match self {
            Self::Memory => Memory(amount).to_string(),
            Self::Cpu => Cpus(amount).to_string(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Cpu => "CPU",
        })
    }
}

/// What a node has too little of: prints as `need 2GiB, 1.1GiB free of 8GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// The resource that is short.
    pub kind: Kind,
    /// What was asked for.
    pub need: u64,
    /// What is left.
    pub free: u64,
    /// What the node has in all.
    pub of: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            need,
            free,
            of,
        } = *self;
        write!(
            f,
            "need {}, {} free of {}",
            kind.need(need),
            kind.amount(free),
            kind.amount(of)
        )
    }
}

/// Bytes that print as a person would write them: `512MiB`, `1.1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(pub u64);

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [
            ("TiB", 1 << 40),
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
        ];
        match UNITS.iter().find(|(_, size)| self.0 >= *size) {
            Some((unit, size)) => write!(f, "{}{unit}", decimal(self.0, *size, 1)),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Billionths of a CPU that print as CPUs: `1 CPU`, `0.5 CPUs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus(pub u64);

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = Kind::Cpu.amount(self.0);
        let unit = if number == "1" { "CPU" } else { "CPUs" };
        write!(f, "{number} {unit}")
    }
}

/// `amount / unit` with at most `places` decimals, rounded down so that what is free is never
/// overstated, and without trailing zeros.
fn decimal(amount: u64, unit: u64, places: u32) -> String {
    let scale = 10u128.pow(places);
    let scaled = u128::from(amount) * scale / u128::from(unit);
    let (whole, part) = (scaled / scale, scaled % scale);
    if part == 0 {
        return whole.to_string();
    }
    let digits = format!("{part:0width$}", width = places as usize);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn amounts_read_as_a_person_writes_them() {
        let memory = |bytes| Memory(bytes).to_string();
        assert_eq!(memory(0), "0B");
        assert_eq!(memory(1023), "1023B");
        assert_eq!(memory(512 * MIB), "512MiB");
        assert_eq!(memory(GIB + GIB / 8), "1.1GiB");
        assert_eq!(memory(8 * GIB), "8GiB");
        assert_eq!(memory(3 << 40), "3TiB");
        let cpus = |nanos| Cpus(nanos).to_string();
        assert_eq!(cpus(1_000_000_000), "1 CPU");
        assert_eq!(cpus(1_500_000_000), "1.5 CPUs");
        assert_eq!(cpus(250_000_000), "0.25 CPUs");
        assert_eq!(cpus(50_000_000), "0.05 CPUs");
    }

    #[test]
    fn a_shortfall_says_the_numbers() {
        let capacity = Resources::new(4_000_000_000, 8 * GIB);
        let free = Resources::new(500_000_000, GIB + GIB / 8);
        let need = |cpu, memory| Resources::new(cpu, memory).shortfall(free, capacity);
        let text = |cpu, memory| need(cpu, memory).map(|short| short.to_string());
        assert_eq!(
            text(0, 2 * GIB).as_deref(),
            Some("need 2GiB, 1.1GiB free of 8GiB")
        );
        assert_eq!(
            text(2_000_000_000, 0).as_deref(),
            Some("need 2 CPUs, 0.5 free of 4")
        );
        assert_eq!(text(500_000_000, GIB), None);
    }

    #[test]
    fn nothing_wraps() {
        let all = Resources::new(u64::MAX, u64::MAX);
        let one = Resources::new(1, 1);
        assert_eq!(all.checked_add(one), None);
        assert_eq!(all.saturating_add(one), all);
        assert_eq!(one.checked_sub(all), None);
        assert_eq!(one.saturating_sub(all), Resources::ZERO);
        assert_eq!(
            all.checked_sub(one).and_then(|less| less.checked_add(one)),
            Some(all)
        );
    }
}
