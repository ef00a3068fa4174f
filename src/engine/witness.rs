//! Who is told what the engine asks.

use super::condition::{Condition, Subject, Value, Wants};

/// Is told each condition of a decision when it is asked, in order. The outcome goes through the witness: what it is told is
/// what decides, and nothing else does.
///
/// What is so in every checked cluster file is told only if it is not so. What a packet is (readable, an ICMP error, a
/// fragment) is told where it makes a difference.
///
/// ```
/// use dunnat::engine::{Conditions, NoWitness, Subject, Value, Wants, Witness as _};
/// use dunnat::net::Mark;
///
/// let mark = Mark(2);
/// let asked = || (Subject::Mark, Value::Mark(mark, Mark::ALL), Wants::IsNot(Value::Mark(Mark::ZERO, Mark::ALL)));
/// let mut conditions = Conditions::new();
/// assert!(conditions.holds(!mark.is_zero(), asked));
/// assert_eq!((conditions.len(), conditions[0].holds), (1, true));
/// // Without a witness the condition is not even made.
/// assert!(NoWitness.holds(true, || unreachable!()));
/// ```
pub trait Witness {
    /// A condition was asked. Only a witness that keeps it has it made.
    fn asked(&mut self, condition: impl FnOnce() -> Condition);

    /// Whether something holds.
    #[inline(always)]
    fn holds(&mut self, holds: bool, condition: impl FnOnce() -> (Subject, Value, Wants)) -> bool {
        self.asked(|| {
            let (subject, value, wants) = condition();
            Condition { subject, value, wants, holds }
        });
        holds
    }

    /// What was found for something in a table.
    #[inline(always)]
    fn found<T: Copy>(
        &mut self,
        row: Option<T>,
        condition: impl FnOnce(Option<T>) -> (Subject, Value, Wants),
    ) -> Option<T> {
        self.holds(row.is_some(), || condition(row));
        row
    }
}

/// Nobody: a decision costs what it costs without a witness.
///
/// ```
/// use dunnat::engine::{NoWitness, Witness as _};
///
/// assert!(NoWitness.holds(1 < 2, || unreachable!("nobody wants to know")));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWitness;

impl Witness for NoWitness {
    #[inline(always)]
    fn asked(&mut self, _: impl FnOnce() -> Condition) {}
}

/// All conditions of a decision, in the order in which they were asked.
///
/// ```
/// use dunnat::engine::{Conditions, Subject, Value, Wants, Witness as _};
///
/// let mut told = Conditions::new();
/// told.holds(false, || (Subject::Bytes, Value::Word("cut"), Wants::Is(Value::Word("whole"))));
/// assert!(!told[0].holds);
/// ```
pub type Conditions = Vec<Condition>;

impl Witness for Conditions {
    fn asked(&mut self, condition: impl FnOnce() -> Condition) {
        self.push(condition());
    }
}
