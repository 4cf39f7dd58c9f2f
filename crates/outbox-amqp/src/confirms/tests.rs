use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

fn settled(confirms: &mut Confirms<u64>) -> Vec<(u64, Confirmed)> {
    let mut settled = Vec::new();
    while confirms.wants_marker() {
        confirms.pass_marker(|item, confirmed| settled.push((item, confirmed)));
    }
    settled
}

#[test]
fn a_confirm_without_a_return_settles_its_message_at_the_next_marker() {
    let mut confirms = Confirms::default();
    let first = confirms.publish(id(1), 1);
    confirms.publish(id(2), 2);
    confirms.confirm(first, true, None);
    assert!(confirms.wants_marker());
    assert!(!confirms.wants_marker(), "one marker at a time");
    let mut settled = Vec::new();
    confirms.pass_marker(|item, confirmed| settled.push((item, confirmed)));
    assert_eq!(settled, [(1, Confirmed::Taken)]);
    assert!(!confirms.is_empty());
}

#[test]
fn a_return_that_comes_with_an_earlier_confirm_stays_with_its_own_message() {
    let mut confirms = Confirms::default();
    let (first, second) = (confirms.publish(id(1), 1), confirms.publish(id(2), 2));
    confirms.confirm(first, true, Some(id(2)));
    assert_eq!(settled(&mut confirms), [], "its own return may still come with the other confirm");
    confirms.confirm(second, true, None);
    assert_eq!(settled(&mut confirms), [(2, Confirmed::Returned), (1, Confirmed::Taken)]);
}

#[test]
fn a_return_that_is_looked_at_after_the_confirm_but_before_the_marker_counts() {
    let mut confirms = Confirms::default();
    let (first, second) = (confirms.publish(id(1), 1), confirms.publish(id(2), 2));
    confirms.confirm(second, true, None);
    assert!(confirms.wants_marker());
    confirms.confirm(first, true, Some(id(2)));
    let mut settled = Vec::new();
    confirms.pass_marker(|item, confirmed| settled.push((item, confirmed)));
    assert_eq!(settled, [(2, Confirmed::Returned)]);
}

#[test]
fn a_nack_is_a_refusal() {
    let mut confirms = Confirms::default();
    let only = confirms.publish(id(1), 1);
    confirms.confirm(only, false, None);
    assert_eq!(settled(&mut confirms), [(1, Confirmed::Refused)]);
    assert!(confirms.is_empty());
}

#[test]
fn what_cannot_be_known_when_the_channel_goes_is_given_back_in_order() {
    let mut confirms = Confirms::default();
    let numbers: Vec<_> = (0..5).map(|n| confirms.publish(id(n), n)).collect();
    confirms.confirm(numbers[1], true, None);
    confirms.confirm(numbers[2], true, Some(id(9)));
    for number in [0, 3, 4] {
        assert!(!confirms.is_over());
        confirms.fail(numbers[number]);
    }
    assert_eq!(settled(&mut confirms), [(1, Confirmed::Taken)]);
    assert!(confirms.is_over());
    assert_eq!(confirms.abandon(), [0, 2, 3, 4], "whether 2 was returned is not known");
    assert!(confirms.is_empty() && !confirms.is_over());
}

/// lapin as it is: returns wait in a queue, each confirm that completes takes the first of them along; and a driver that looks at what is ready in any order.
#[derive(Debug, Clone)]
enum Step {
    Publish {
        routable: bool,
    },
    /// The broker confirms an open message (returning it first, with all that it has to return, when it is not routable).
    Confirm {
        which: usize,
    },
    /// The broker confirms several at once, which lapin completes in any order.
    ConfirmAll,
    /// The driver looks at one thing that is ready.
    Look {
        which: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(|routable| Step::Publish { routable }),
        3 => any::<usize>().prop_map(|which| Step::Confirm { which }),
        1 => Just(Step::ConfirmAll),
        5 => any::<usize>().prop_map(|which| Step::Look { which }),
    ];
    proptest::collection::vec(step, 1..200)
}

#[derive(Default)]
struct Model {
    confirms: Confirms<u64>,
    unroutable: BTreeSet<u64>,
    open: Vec<u64>,
    returned: BTreeSet<u64>,
    waiting: VecDeque<u64>,
    /// Completed confirms that nobody looked at, with what came along; the marker is `None`.
    ready: Vec<Option<(u64, Option<u64>)>>,
    settled: Vec<(u64, Confirmed)>,
}

impl Model {
    fn return_unroutable(&mut self, up_to: u64) {
        let news: Vec<_> = self.open.iter().copied().filter(|n| *n <= up_to && self.unroutable.contains(n)).collect();
        for number in news {
            if self.returned.insert(number) {
                self.waiting.push_back(number);
            }
        }
    }

    fn complete(&mut self, number: u64) {
        self.open.retain(|open| *open != number);
        let along = self.waiting.pop_front();
        self.ready.push(Some((number, along)));
    }

    /// Anything that is ready before the marker may be looked at, in any order: more than the driver's own queue allows.
    fn look(&mut self, which: usize) {
        let before_marker = self.ready.iter().position(Option::is_none).unwrap_or(self.ready.len());
        if before_marker == 0 && self.ready.is_empty() {
            return;
        }
        if before_marker == 0 {
            self.ready.remove(0);
            let settled = &mut self.settled;
            self.confirms.pass_marker(|item, confirmed| settled.push((item, confirmed)));
        } else if let Some((number, along)) = self.ready.remove(which % before_marker) {
            self.confirms.confirm(number, true, along.map(id));
        }
        if self.confirms.wants_marker() {
            self.ready.push(None);
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_order_every_return_is_found_and_nothing_else(steps in steps(), seed in any::<u64>()) {
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Publish { routable } => {
                    let number = model.confirms.next;
                    model.confirms.publish(id(number), number);
                    model.open.push(number);
                    if !routable {
                        model.unroutable.insert(number);
                    }
                }
                Step::Confirm { which } if !model.open.is_empty() => {
                    let number = model.open[which % model.open.len()];
                    model.return_unroutable(number);
                    model.complete(number);
                }
                Step::ConfirmAll => {
                    model.return_unroutable(u64::MAX);
                    let mut all = model.open.clone();
                    all.sort_by_key(|number| number.wrapping_mul(seed | 1));
                    all.into_iter().for_each(|number| model.complete(number));
                }
                Step::Look { which } => model.look(which),
                Step::Confirm { .. } => {}
            }
        }
        model.return_unroutable(u64::MAX);
        for number in model.open.clone() {
            model.complete(number);
        }
        while !model.ready.is_empty() {
            model.look(0);
        }
        prop_assert!(model.confirms.is_empty(), "messages without an outcome");
        prop_assert_eq!(model.settled.len() as u64, model.confirms.next);
        for (number, confirmed) in model.settled {
            let expected = if model.unroutable.contains(&number) { Confirmed::Returned } else { Confirmed::Taken };
            prop_assert_eq!(confirmed, expected, "message {}", number);
        }
    }
}
