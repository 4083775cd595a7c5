//! Where the processes of a group meet, from environment variables.

use std::{env, fmt};

/// Where a process meets the others, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendezvous {
    /// Name or address of the machine with the store.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The rank of this process.
    pub rank: usize,
    /// Its rank among the processes of its machine; 0 if the launcher does not say it.
    pub local_rank: usize,
    /// Number of processes, 2 or more.
    pub size: usize,
    /// What precedes the keys in the store if another program serves it, as `torchrun` does; otherwise rank 0 serves the
    /// store.
    pub key_prefix: Option<String>,
}

/// Why a process does not find its group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RendezvousError {
    /// A variable that the others need is not set.
    #[error("{missing} is not set, but {present} is: set both, or neither for a single process")]
    Missing {
        /// The variable that is missing.
        missing: &'static str,
        /// The variable that needs it.
        present: &'static str,
    },
    /// A variable has a value that does not fit.
    #[error("{variable} is {value:?} and {allowed}")]
    Invalid {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        allowed: &'static str,
    },
    /// The others did not come, or cannot be reached.
    #[error("{rendezvous} cannot join the others: {problem}")]
    Failed {
        /// Where they meet.
        rendezvous: Rendezvous,
        /// The reason that c10d gives.
        problem: String,
    },
}

/// The names of the variables of one launcher.
struct Names {
    size: &'static str,
    rank: &'static str,
    host: &'static str,
    port: &'static str,
}

/// Set by `torchrun` for each process; see <https://docs.pytorch.org/docs/stable/elastic/run.html>.
const TORCHRUN: Names = Names {
    size: "WORLD_SIZE",
    rank: "RANK",
    host: "MASTER_ADDR",
    port: "MASTER_PORT",
};

/// Set by Kubeflow Trainer for each pod, as arguments of a `torchrun` in it.
const KUBEFLOW: Names = Names {
    size: "PET_NNODES",
    rank: "PET_NODE_RANK",
    host: "PET_MASTER_ADDR",
    port: "PET_MASTER_PORT",
};

const PROCESSES_PER_NODE: &str = "PET_NPROC_PER_NODE";

/// Set by `torchrun`: the rank of the process among those of its machine.
const LOCAL_RANK: &str = "LOCAL_RANK";

/// Set to `True` if `torchrun` serves the store.
const AGENT_STORE: &str = "TORCHELASTIC_USE_AGENT_STORE";

/// Counts the times that `torchrun` started the group again.
const RESTARTS: &str = "TORCHELASTIC_RESTART_COUNT";

impl Rendezvous {
    /// Reads the variables of `torchrun`, or else those of Kubeflow Trainer where each pod is one process. `None` if there
    /// are none, or for a group of one.
    ///
    /// # Errors
    /// If a variable is missing or has a wrong value.
    pub fn from_environment() -> Result<Option<Self>, RendezvousError> {
        Self::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, RendezvousError> {
        let value = |name: &str| variable(name).filter(|value| !value.is_empty());
        let names = if value(TORCHRUN.size).is_some() {
            TORCHRUN
        } else if value(KUBEFLOW.size).is_some() {
            if let Some(count) = value(PROCESSES_PER_NODE).filter(|count| count != "1") {
                return Err(RendezvousError::Invalid {
                    variable: PROCESSES_PER_NODE,
                    value: count,
                    allowed: "must be 1 without torchrun, which starts several processes in a pod",
                });
            }
            KUBEFLOW
        } else {
            return Ok(None);
        };
        let needed = |missing: &'static str| {
            value(missing).ok_or(RendezvousError::Missing {
                missing,
                present: names.size,
            })
        };
        let number = |variable: &'static str, allowed: &'static str| {
            let value = needed(variable)?;
            value
                .parse::<usize>()
                .map_err(|_| RendezvousError::Invalid {
                    variable,
                    value,
                    allowed,
                })
        };
        let size = number(names.size, "must be a number of processes")?;
        if size == 1 {
            return Ok(None);
        }
        let rank = number(names.rank, "must be a number from 0")?;
        if rank >= size {
            return Err(RendezvousError::Invalid {
                variable: names.rank,
                value: rank.to_string(),
                allowed: "must be less than the number of processes",
            });
        }
        let local_rank = match value(LOCAL_RANK) {
            Some(_) => number(LOCAL_RANK, "must be a number from 0")?,
            None => 0,
        };
        let port = needed(names.port)?;
        let port = port.parse::<u16>().map_err(|_| RendezvousError::Invalid {
            variable: names.port,
            value: port,
            allowed: "must be a port",
        })?;
        let agent_has_store = value(AGENT_STORE).is_some_and(|it| it.eq_ignore_ascii_case("true"));
        let restarts = value(RESTARTS).unwrap_or_default();
        Ok(Some(Self {
            host: needed(names.host)?,
            port,
            rank,
            local_rank,
            size,
            key_prefix: agent_has_store.then(|| format!("retort/attempt_{restarts}")),
        }))
    }
}

impl fmt::Display for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            rank,
            size,
            ..
        } = self;
        write!(f, "worker {rank} of {size} at {host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Rendezvous>, RendezvousError> {
        Rendezvous::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const OF_TORCHRUN: [(&str, &str); 4] = [
        ("WORLD_SIZE", "4"),
        ("RANK", "3"),
        ("MASTER_ADDR", "machine"),
        ("MASTER_PORT", "29500"),
    ];

    #[test]
    fn the_variables_of_both_launchers_are_read() {
        let expected = Rendezvous {
            host: "machine".to_owned(),
            port: 29500,
            rank: 3,
            local_rank: 0,
            size: 4,
            key_prefix: None,
        };
        assert_eq!(read(&OF_TORCHRUN).unwrap(), Some(expected.clone()));
        let second_of_its_machine = Rendezvous {
            local_rank: 1,
            ..expected.clone()
        };
        let found = read(&[&OF_TORCHRUN[..], &[("LOCAL_RANK", "1")]].concat()).unwrap();
        assert_eq!(found, Some(second_of_its_machine));
        let of_kubeflow = [
            ("PET_NNODES", "4"),
            ("PET_NPROC_PER_NODE", "1"),
            ("PET_NODE_RANK", "3"),
            ("PET_MASTER_ADDR", "machine"),
            ("PET_MASTER_PORT", "29500"),
        ];
        assert_eq!(read(&of_kubeflow).unwrap(), Some(expected));
        // torchrun in a pod of Kubeflow sets its own variables for each process.
        let both = [&[("WORLD_SIZE", "8"), ("RANK", "7")][..], &OF_TORCHRUN[2..]].concat();
        let both = read(&[&both[..], &of_kubeflow].concat()).unwrap().unwrap();
        assert_eq!((both.rank, both.size), (7, 8));
    }

    #[test]
    fn the_store_of_torchrun_has_other_keys_after_each_restart() {
        let prefix = |store: &[(&str, &str)]| {
            let found = read(&[&OF_TORCHRUN[..], store].concat());
            found.unwrap().unwrap().key_prefix
        };
        // As `torchrun` writes a bool of Python.
        let (served, restarts) = ("TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT");
        for count in ["0", "2"] {
            let expected = format!("retort/attempt_{count}");
            let found = prefix(&[(served, "True"), (restarts, count)]);
            assert_eq!(found, Some(expected));
        }
        // With TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, `torchrun` only chooses the port.
        for not_served in ["False", ""] {
            assert_eq!(prefix(&[(served, not_served), (restarts, "2")]), None);
        }
        assert_eq!(prefix(&[(restarts, "2")]), None);
    }

    #[test]
    fn a_single_process_has_no_group() {
        let cases: [&[(&str, &str)]; 5] = [
            &[],
            &[("WORLD_SIZE", "")],
            &[("WORLD_SIZE", "1"), ("RANK", "0")],
            &[("PET_NNODES", "1")],
            &[("RANK", "3")],
        ];
        for variables in cases {
            assert_eq!(read(variables).unwrap(), None, "{variables:?}");
        }
    }

    #[test]
    fn a_missing_or_wrong_variable_is_named() {
        let mut cases: Vec<(Vec<(&str, &str)>, &str)> = Vec::new();
        for left_out in 1..OF_TORCHRUN.len() {
            let mut variables = OF_TORCHRUN.to_vec();
            let (name, _) = variables.remove(left_out);
            cases.push((variables, name));
        }
        for (index, value) in [(0, "two"), (1, "4"), (1, "-1"), (3, "99999")] {
            let mut variables = OF_TORCHRUN.to_vec();
            variables[index].1 = value;
            cases.push((variables, OF_TORCHRUN[index].0));
        }
        cases.push((
            vec![("PET_NNODES", "2"), ("PET_NPROC_PER_NODE", "auto")],
            "PET_NPROC_PER_NODE",
        ));
        cases.push((vec![("PET_NNODES", "1:4")], "PET_NNODES"));
        let local_rank = [&OF_TORCHRUN[..], &[("LOCAL_RANK", "first")]].concat();
        cases.push((local_rank, "LOCAL_RANK"));
        for (variables, name) in cases {
            let error = read(&variables).unwrap_err().to_string();
            assert!(error.contains(name), "{name} is not in: {error}");
        }
    }
}
