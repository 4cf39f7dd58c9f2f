use std::collections::{BTreeMap, BTreeSet, VecDeque};

use outbox_core::inbox::{Acknowledging, Assigned, Consumer, Incoming, Partition, SourceEvent};

/// Messages that one event brings at most.
const BATCH: usize = 64;

#[derive(Debug)]
pub(super) struct Broker {
    acknowledging: Acknowledging,
    log: BTreeMap<Partition, Vec<Incoming>>,
    groups: BTreeMap<Consumer, Group>,
    members: u64,
    pub(super) is_unavailable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MemberId(u64);

#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<MemberId, Member>,
    progress: BTreeMap<Partition, Progress>,
}

#[derive(Debug, Default)]
struct Member {
    events: VecDeque<SourceEvent>,
    paused: BTreeSet<Partition>,
    /// Partitions that go when `next` is called again.
    leaving: Vec<Partition>,
    is_disconnected: bool,
}

/// How far a group is with a partition.
#[derive(Debug, Default)]
struct Progress {
    owner: Option<MemberId>,
    is_revoked: bool,
    next: usize,
    /// Everything below is acknowledged.
    low: usize,
    acknowledged: BTreeSet<usize>,
    /// What was delivered in this assignment, by its tag less one.
    tags: Vec<usize>,
    delivered_once: usize,
}

/// What a member gets.
pub(super) enum Turn {
    Event(SourceEvent),
    Disconnected,
    Nothing,
}

impl Broker {
    pub(super) fn new(acknowledging: Acknowledging) -> Self {
        Self { acknowledging, log: BTreeMap::new(), groups: BTreeMap::new(), members: 0, is_unavailable: false }
    }

    pub(super) fn create(&mut self, partition: Partition) {
        self.log.entry(partition).or_default();
    }

    pub(super) fn publish(&mut self, incoming: Incoming) -> i64 {
        let log = self.log.entry(incoming.partition.clone()).or_default();
        log.push(incoming);
        as_position(log.len() - 1)
    }

    /// `None`: the broker cannot be reached.
    pub(super) fn join(&mut self, consumer: &Consumer, partitions: &[Partition]) -> Option<MemberId> {
        if self.is_unavailable {
            return None;
        }
        self.members += 1;
        let member = MemberId(self.members);
        let group = self.groups.entry(consumer.clone()).or_default();
        group.members.insert(member, Member::default());
        for partition in partitions {
            group.progress.entry(partition.clone()).or_default();
        }
        group.share_out(self.acknowledging);
        Some(member)
    }

    pub(super) fn leave(&mut self, consumer: &Consumer, member: MemberId) {
        let Some(group) = self.groups.get_mut(consumer) else { return };
        group.members.remove(&member);
        group.progress.values_mut().filter(|progress| progress.owner == Some(member)).for_each(Progress::free);
        group.share_out(self.acknowledging);
    }

    pub(super) fn disconnect(&mut self, consumer: &Consumer) {
        let Some(group) = self.groups.get_mut(consumer) else { return };
        group.members.values_mut().for_each(|member| member.is_disconnected = true);
        group.progress.values_mut().for_each(Progress::free);
    }

    pub(super) fn take_away(&mut self, consumer: &Consumer) {
        let Some(group) = self.groups.get_mut(consumer) else { return };
        for (id, member) in &mut group.members {
            let owned = group.progress.iter().filter(|(_, progress)| progress.owner == Some(*id));
            let lost: Vec<_> = owned.map(|(partition, _)| partition.clone()).collect();
            member.leaving.clear();
            if !lost.is_empty() {
                member.events.push_back(SourceEvent::Lost(lost));
            }
        }
        let next = group.rotation();
        for progress in group.progress.values_mut() {
            let owner = progress.owner;
            progress.free();
            progress.owner = owner.and_then(|owner| next.get(&owner).copied());
        }
        group.announce_all(self.acknowledging);
    }

    pub(super) fn reset(&mut self, consumer: &Consumer, partition: &Partition, position: i64) {
        let group = self.groups.entry(consumer.clone()).or_default();
        let progress = group.progress.entry(partition.clone()).or_default();
        if progress.owner.is_none() {
            progress.low = usize::try_from(position).unwrap_or(0);
            progress.acknowledged.clear();
            progress.free();
        }
    }

    pub(super) fn unacknowledged(&self, consumer: &Consumer) -> usize {
        let Some(group) = self.groups.get(consumer) else { return self.log.values().map(Vec::len).sum() };
        let open = |(partition, progress): (&Partition, &Progress)| {
            self.log.get(partition).map_or(0, Vec::len).saturating_sub(progress.low) - progress.acknowledged.len()
        };
        group.progress.iter().map(open).sum()
    }

    pub(super) fn acknowledge(&mut self, consumer: &Consumer, id: MemberId, partition: &Partition, position: i64) {
        let Some(group) = self.groups.get_mut(consumer) else { return };
        let Some(progress) = group.progress.get_mut(partition) else { return };
        if progress.owner != Some(id) {
            return;
        }
        match self.acknowledging {
            Acknowledging::Cumulative => {
                let low = usize::try_from(position + 1).unwrap_or(0);
                if low > progress.low {
                    progress.low = low;
                    if let Some(member) = group.members.get_mut(&id) {
                        member.events.push_back(SourceEvent::Acknowledged(vec![(partition.clone(), position)]));
                    }
                }
            }
            Acknowledging::Individual => {
                let tag = usize::try_from(position - 1).unwrap_or(usize::MAX);
                let Some(index) = progress.tags.get(tag) else { return };
                progress.acknowledged.insert(*index);
                while progress.acknowledged.remove(&progress.low) {
                    progress.low += 1;
                }
            }
        }
    }

    pub(super) fn set_paused(&mut self, consumer: &Consumer, id: MemberId, partition: &Partition, paused: bool) {
        let member = self.groups.get_mut(consumer).and_then(|group| group.members.get_mut(&id));
        if let Some(member) = member {
            if paused {
                member.paused.insert(partition.clone());
            } else {
                member.paused.remove(partition);
            }
        }
    }

    /// What happens next for a member that calls `next`, and whether partitions were let go by it.
    pub(super) fn turn(&mut self, consumer: &Consumer, id: MemberId) -> (Turn, bool) {
        let let_go = self.let_go(consumer, id);
        (self.next_of(consumer, id).unwrap_or(Turn::Disconnected), let_go)
    }

    fn let_go(&mut self, consumer: &Consumer, id: MemberId) -> bool {
        let Some(group) = self.groups.get_mut(consumer) else { return false };
        let Some(member) = group.members.get_mut(&id) else { return false };
        let leaving = std::mem::take(&mut member.leaving);
        for partition in &leaving {
            member.paused.remove(partition);
            if let Some(progress) = group.progress.get_mut(partition).filter(|progress| progress.owner == Some(id)) {
                progress.free();
            }
        }
        if !leaving.is_empty() {
            group.share_out(self.acknowledging);
        }
        !leaving.is_empty()
    }

    /// `None`: the connection has ended.
    fn next_of(&mut self, consumer: &Consumer, id: MemberId) -> Option<Turn> {
        let group = self.groups.get_mut(consumer)?;
        let member = group.members.get_mut(&id).filter(|member| !member.is_disconnected)?;
        if let Some(event) = member.events.pop_front() {
            if let SourceEvent::Revoking(partitions) = &event {
                member.leaving.clone_from(partitions);
            }
            return Some(Turn::Event(event));
        }
        let mut batch = Vec::new();
        let owned =
            group.progress.iter_mut().filter(|(_, progress)| progress.owner == Some(id) && !progress.is_revoked);
        for (partition, progress) in owned.filter(|(partition, _)| !member.paused.contains(partition)) {
            let log = self.log.get(partition).map_or(&[][..], Vec::as_slice);
            while batch.len() < BATCH && progress.next < log.len() {
                batch.extend(progress.deliver(&log[progress.next], self.acknowledging));
            }
        }
        Some(if batch.is_empty() { Turn::Nothing } else { Turn::Event(SourceEvent::Delivered(batch)) })
    }
}

impl Group {
    /// Gives each partition to the member whose turn it is; what another has is asked back first.
    fn share_out(&mut self, acknowledging: Acknowledging) {
        let members: Vec<MemberId> =
            self.members.iter().filter(|(_, member)| !member.is_disconnected).map(|(id, _)| *id).collect();
        if members.is_empty() {
            return;
        }
        let mut revoked: BTreeMap<MemberId, Vec<Partition>> = BTreeMap::new();
        let mut assigned: BTreeMap<MemberId, Vec<Assigned>> = BTreeMap::new();
        for (index, (partition, progress)) in self.progress.iter_mut().enumerate() {
            let wanted = members[index % members.len()];
            match progress.owner {
                None => {
                    progress.owner = Some(wanted);
                    assigned.entry(wanted).or_default().push(progress.assigned(partition, acknowledging));
                }
                Some(owner) if owner != wanted && !progress.is_revoked => {
                    progress.is_revoked = true;
                    revoked.entry(owner).or_default().push(partition.clone());
                }
                Some(_) => {}
            }
        }
        for (id, partitions) in revoked {
            self.tell(id, SourceEvent::Revoking(partitions));
        }
        for (id, partitions) in assigned {
            self.tell(id, SourceEvent::Assigned(partitions));
        }
    }

    /// Tells every owner what it has.
    fn announce_all(&mut self, acknowledging: Acknowledging) {
        let mut assigned: BTreeMap<MemberId, Vec<Assigned>> = BTreeMap::new();
        for (partition, progress) in &self.progress {
            if let Some(owner) = progress.owner {
                assigned.entry(owner).or_default().push(progress.assigned(partition, acknowledging));
            }
        }
        for (id, partitions) in assigned {
            self.tell(id, SourceEvent::Assigned(partitions));
        }
    }

    /// Which member comes after each.
    fn rotation(&self) -> BTreeMap<MemberId, MemberId> {
        let members: Vec<_> = self.members.keys().copied().collect();
        members.iter().zip(members.iter().cycle().skip(1)).map(|(one, next)| (*one, *next)).collect()
    }

    fn tell(&mut self, id: MemberId, event: SourceEvent) {
        if let Some(member) = self.members.get_mut(&id) {
            if matches!(event, SourceEvent::Assigned(_)) {
                member.paused.clear();
            }
            member.events.push_back(event);
        }
    }
}

impl Progress {
    fn free(&mut self) {
        self.owner = None;
        self.is_revoked = false;
        self.next = self.low;
        self.tags.clear();
    }

    fn assigned(&self, partition: &Partition, acknowledging: Acknowledging) -> Assigned {
        let start = (acknowledging == Acknowledging::Cumulative).then(|| as_position(self.low));
        Assigned { partition: partition.clone(), start }
    }

    /// `None`: it was acknowledged before.
    fn deliver(&mut self, message: &Incoming, acknowledging: Acknowledging) -> Option<Incoming> {
        let index = self.next;
        self.next += 1;
        if index < self.low || self.acknowledged.contains(&index) {
            return None;
        }
        let redelivered = index < self.delivered_once && acknowledging == Acknowledging::Individual;
        self.delivered_once = self.delivered_once.max(self.next);
        let position = match acknowledging {
            Acknowledging::Cumulative => as_position(index),
            Acknowledging::Individual => {
                self.tags.push(index);
                as_position(self.tags.len())
            }
        };
        Some(Incoming { position, redelivered, ..message.clone() })
    }
}

fn as_position(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
