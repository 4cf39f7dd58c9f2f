use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::process::Signal;
use xtask::deadline;

use super::tally::ConsumerTally;
use crate::process::RoleProcess;

/// How long a consumer may take to say its first numbers.
const START_LIMIT: Duration = Duration::from_secs(30);
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// What the consumers of a run are told.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) database: String,
    pub(super) broker: String,
    pub(super) deadlocks: bool,
    pub(super) durable: bool,
    /// Folder of the consumers' logs.
    pub(super) folder: PathBuf,
}

/// The consumer processes of a run.
pub(super) struct Fleet {
    orders: Orders,
    members: Vec<Member>,
    /// Asked to drain.
    leaving: Vec<(RoleProcess, Instant)>,
    /// Started so far; part of their names.
    started: usize,
    /// What ended consumers said of themselves.
    ended: ConsumerTally,
}

struct Member {
    process: RoleProcess,
    /// When it goes on, while it is paused.
    resumes_at: Option<Instant>,
}

impl Fleet {
    /// Starts consumers and waits until each is at work.
    pub(super) fn open(orders: Orders, consumers: usize) -> Result<Self> {
        let (members, leaving, ended) = (Vec::new(), Vec::new(), ConsumerTally::default());
        let mut fleet = Self { orders, members, leaving, started: 0, ended };
        for _ in 0..consumers {
            fleet.join()?;
        }
        deadline::wait("all consumers are at work", START_LIMIT, || {
            fleet.look()?;
            Ok(fleet.members.iter().all(|member| member.process.tally::<ConsumerTally>().is_alive).then_some(()))
        })?;
        Ok(fleet)
    }

    /// Consumers that have not been asked to leave, those that are paused included.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Indexes of the consumers that are not paused.
    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|index| self.members[*index].resumes_at.is_none()).collect()
    }

    /// Starts one more; its name.
    pub(super) fn join(&mut self) -> Result<String> {
        self.started += 1;
        let name = format!("consumer-{}", self.started);
        let mut arguments = vec!["consumer", "--database", &self.orders.database, "--broker", &self.orders.broker];
        arguments.extend(self.orders.deadlocks.then_some("--deadlocks"));
        arguments.extend(self.orders.durable.then_some("--durable"));
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let process = RoleProcess::start(&name, &self.orders.folder, &arguments)?;
        self.members.push(Member { process, resumes_at: None });
        Ok(name)
    }

    /// `kill -9` of one; its name.
    pub(super) fn kill(&mut self, index: usize) -> Result<String> {
        let mut process = self.members.remove(index).process;
        process.kill()?;
        self.ended.add(&process.tally());
        Ok(process.name().to_owned())
    }

    /// `SIGSTOP` of one; it goes on after `time`, at a [`look`](Self::look). Its name.
    pub(super) fn pause(&mut self, index: usize, time: Duration) -> Result<String> {
        let member = &mut self.members[index];
        member.process.signal(Signal::STOP)?;
        member.resumes_at = Some(Instant::now() + time);
        Ok(member.process.name().to_owned())
    }

    /// Asks one to drain and leave; its name.
    pub(super) fn leave(&mut self, index: usize) -> Result<String> {
        let member = self.members.remove(index);
        member.process.signal(Signal::TERM)?;
        let name = member.process.name().to_owned();
        self.leaving.push((member.process, Instant::now()));
        Ok(name)
    }

    /// Lets those go on whose pause is over, and collects those that have left. Fails when one has ended by itself, or did not drain.
    pub(super) fn look(&mut self) -> Result<()> {
        let now = Instant::now();
        for member in &mut self.members {
            member.process.check()?;
            if member.resumes_at.is_some_and(|at| at <= now) {
                member.process.signal(Signal::CONT)?;
                member.resumes_at = None;
            }
        }
        for (mut process, since) in std::mem::take(&mut self.leaving) {
            if process.has_ended()? {
                process.drained(Duration::ZERO)?;
                self.ended.add(&process.tally());
            } else {
                anyhow::ensure!(since.elapsed() < DRAIN_LIMIT, "{} does not drain", process.name());
                self.leaving.push((process, since));
            }
        }
        Ok(())
    }

    /// Lets all drain; what all consumers of the run said of themselves.
    pub(super) fn close(mut self) -> Result<ConsumerTally> {
        deadline::wait("no consumer is paused", DRAIN_LIMIT, || {
            self.look()?;
            Ok((self.running().len() == self.len()).then_some(()))
        })?;
        while self.len() > 0 {
            self.leave(0)?;
        }
        deadline::wait("all consumers have left", DRAIN_LIMIT, || {
            self.look()?;
            Ok(self.leaving.is_empty().then_some(()))
        })?;
        Ok(self.ended)
    }
}
