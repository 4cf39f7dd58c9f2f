use std::collections::VecDeque;

/// The deliveries of one channel that are not acknowledged to the broker, by their tags, which grow.
#[derive(Debug, Default)]
pub(super) struct Tags {
    open: VecDeque<(i64, State)>,
    /// How many are to be acknowledged.
    noted: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// To be acknowledged.
    Noted,
    /// Acknowledged, with earlier ones that are not.
    Sent,
}

/// One acknowledgement as it goes to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: i64,
    /// With every earlier delivery that is not acknowledged. `tag` itself must not be: the broker closes the channel over a tag that it does not know.
    pub(super) multiple: bool,
}

impl Tags {
    pub(super) fn delivered(&mut self, tag: i64) {
        self.open.push_back((tag, State::Open));
    }

    /// Notes a tag to be acknowledged. `false`: it is not open on this channel.
    pub(super) fn note(&mut self, tag: i64) -> bool {
        let index = self.open.partition_point(|(other, _)| *other < tag);
        match self.open.get_mut(index) {
            Some((other, state @ State::Open)) if *other == tag => {
                *state = State::Noted;
                self.noted += 1;
                true
            }
            _ => false,
        }
    }

    /// What is to be sent for everything that was noted: one acknowledgement for all up to the first that is open, and one for each beyond.
    pub(super) fn take(&mut self) -> Vec<Ack> {
        let mut acks = Vec::new();
        if self.noted == 0 {
            return acks;
        }
        let (mut last, mut count) = (None, 0);
        while let Some((tag, state)) = self.open.front().copied().filter(|(_, state)| *state != State::Open) {
            if state == State::Noted {
                (last, count) = (Some(tag), count + 1);
            }
            self.open.pop_front();
        }
        acks.extend(last.map(|tag| Ack { tag, multiple: count > 1 }));
        if count < self.noted {
            for (tag, state) in &mut self.open {
                if *state == State::Noted {
                    *state = State::Sent;
                    acks.push(Ack { tag: *tag, multiple: false });
                }
            }
        }
        self.noted = 0;
        acks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn delivered(tags: std::ops::RangeInclusive<i64>) -> Tags {
        let mut all = Tags::default();
        tags.for_each(|tag| all.delivered(tag));
        all
    }

    #[test]
    fn a_run_from_the_oldest_goes_as_one_and_the_rest_each_by_itself() {
        let mut tags = delivered(1..=9);
        for tag in [3, 1, 2, 5, 8] {
            assert!(tags.note(tag));
        }
        let each = |tag| Ack { tag, multiple: false };
        assert_eq!(tags.take(), [Ack { tag: 3, multiple: true }, each(5), each(8)]);
        assert_eq!(tags.take(), []);
        // 5 was sent: 4 is the last that the broker still has
        assert!(tags.note(4));
        assert_eq!(tags.take(), [each(4)]);
    }

    #[test]
    fn a_tag_that_is_not_open_is_not_acknowledged() {
        let mut tags = delivered(3..=4);
        assert!(!tags.note(2) && !tags.note(5));
        assert!(tags.note(3) && !tags.note(3));
        tags.take();
        assert!(!tags.note(3));
    }

    proptest! {
        /// The broker takes what it knows only, and in the end has exactly what was noted.
        #[test]
        fn the_broker_acknowledges_exactly_what_was_noted(steps in prop::collection::vec((0_u8..10, 1_i64..60), 1..300)) {
            let (mut tags, mut broker, mut noted) = (Tags::default(), BTreeSet::new(), BTreeSet::new());
            let mut last = 0;
            for (kind, tag) in steps {
                match kind {
                    0..=3 => {
                        last += 1;
                        tags.delivered(last);
                        broker.insert(last);
                    }
                    4..=8 => {
                        let fresh = tag <= last && noted.insert(tag);
                        prop_assert_eq!(tags.note(tag), fresh);
                    }
                    _ => for ack in tags.take() {
                        prop_assert!(broker.contains(&ack.tag), "the broker does not know {}", ack.tag);
                        if ack.multiple {
                            broker = broker.split_off(&(ack.tag + 1));
                        } else {
                            broker.remove(&ack.tag);
                        }
                    }
                }
                prop_assert!(broker.iter().all(|tag| !noted.contains(tag) || kind != 9), "something was left out");
                prop_assert!((1..=last).all(|tag| noted.contains(&tag) || broker.contains(&tag)), "too much");
            }
        }
    }
}
