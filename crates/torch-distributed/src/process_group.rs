//! A group of processes that exchange bytes through c10d.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr::NonNull,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tch::Tensor;

use crate::{LostWorker, Rendezvous, RendezvousError, Workers};

/// A variable that must be set when a process with a group starts, with its value. An exchange between GPUs that fails or takes
/// too long then is an error of the thread that waits for it, which can still write a checkpoint; by default, c10d ends the
/// process.
pub const ENVIRONMENT: [(&str, &str); 1] = [("TORCH_NCCL_BLOCKING_WAIT", "1")];

/// Enough for the message of an exception of c10d; a longer one is cut.
const ERROR_BYTES: usize = 1024;

/// One process of a group.
#[derive(Debug)]
pub struct ProcessGroup {
    rank: usize,
    local_rank: usize,
    count: usize,
    /// c10d expects one call at a time.
    handle: Mutex<Handle>,
}

/// Owns the group of the C interface.
#[derive(Debug)]
struct Handle(NonNull<c_void>);

// SAFETY: c10d's groups are not bound to the thread that made them.
unsafe impl Send for Handle {}

/// As in `shim/process_group.h`.
#[repr(C)]
struct RawRendezvous {
    host: *const c_char,
    port: u16,
    rank: c_int,
    size: c_int,
    store_is_elsewhere: bool,
    key_prefix: *const c_char,
    timeout_milliseconds: i64,
}

unsafe extern "C" {
    fn retort_join_group(
        rendezvous: *const RawRendezvous,
        error: *mut c_char,
        capacity: usize,
    ) -> *mut c_void;
    fn retort_broadcast(
        group: *mut c_void,
        bytes: *mut c_void,
        length: usize,
        error: *mut c_char,
        capacity: usize,
    ) -> bool;
    fn retort_all_gather(
        group: *mut c_void,
        own: *const c_void,
        length: usize,
        all: *mut c_void,
        error: *mut c_char,
        capacity: usize,
    ) -> bool;
    fn retort_gather(
        group: *mut c_void,
        own: *const c_void,
        all: *const c_void,
        error: *mut c_char,
        capacity: usize,
    ) -> bool;
    fn retort_has_nccl() -> bool;
    fn retort_leave_group(group: *mut c_void);
}

/// Whether the workers of a [`ProcessGroup`] can gather tensors on GPUs: this was built with a libtorch for CUDA and the headers
/// of NCCL.
pub fn has_nccl() -> bool {
    // SAFETY: the function takes nothing and changes nothing.
    unsafe { retort_has_nccl() }
}

impl ProcessGroup {
    /// Waits for all processes of `rendezvous`, at most for `timeout`, which is also the limit of each exchange.
    ///
    /// # Errors
    /// If they do not all come, or cannot connect to each other.
    pub fn join(rendezvous: &Rendezvous, timeout: Duration) -> Result<Self, RendezvousError> {
        let failure = |problem: String| RendezvousError::Failed {
            rendezvous: rendezvous.clone(),
            problem,
        };
        let text = |text: &str| CString::new(text).map_err(|error| failure(error.to_string()));
        let number = |number: usize| {
            c_int::try_from(number).map_err(|_| failure(format!("{number} is too large")))
        };
        let host = text(&rendezvous.host)?;
        let key_prefix = text(rendezvous.key_prefix.as_deref().unwrap_or_default())?;
        let settings = RawRendezvous {
            host: host.as_ptr(),
            port: rendezvous.port,
            rank: number(rendezvous.rank)?,
            size: number(rendezvous.size)?,
            store_is_elsewhere: rendezvous.key_prefix.is_some(),
            key_prefix: key_prefix.as_ptr(),
            timeout_milliseconds: i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX),
        };
        let mut error = ErrorText::default();
        // SAFETY: `settings` and its texts, which end with zero bytes, live until the call returns; the error has its length.
        let group = unsafe { retort_join_group(&settings, error.start(), ERROR_BYTES) };
        match NonNull::new(group) {
            Some(group) => Ok(Self {
                rank: rendezvous.rank,
                local_rank: rendezvous.local_rank,
                count: rendezvous.size,
                handle: Mutex::new(Handle(group)),
            }),
            None => Err(failure(error.text())),
        }
    }

    /// Gathers equally many values of every process. `T` must be a plain number, of which every bit pattern is valid.
    fn all_gather<T: Copy + Default>(&self, own: &[T]) -> Result<Vec<T>, LostWorker> {
        let mut all = vec![T::default(); own.len() * self.count];
        if own.is_empty() {
            return Ok(all);
        }
        self.call(|group, error| {
            let (source, target) = (own.as_ptr().cast(), all.as_mut_ptr().cast());
            // SAFETY: `own` has this many bytes, and `all` has them for each of the group's processes. They are numbers.
            unsafe {
                retort_all_gather(group, source, size_of_val(own), target, error, ERROR_BYTES)
            }
        })?;
        Ok(all)
    }

    /// Replaces `bytes` by those of rank 0, which has as many.
    fn broadcast_in_place(&self, bytes: &mut [u8]) -> Result<(), LostWorker> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.call(|group, error| {
            // SAFETY: the length is that of `bytes`.
            unsafe {
                retort_broadcast(
                    group,
                    bytes.as_mut_ptr().cast(),
                    bytes.len(),
                    error,
                    ERROR_BYTES,
                )
            }
        })
    }

    fn call(
        &self,
        exchange: impl FnOnce(*mut c_void, *mut c_char) -> bool,
    ) -> Result<(), LostWorker> {
        // A panic in another thread leaves the group as it is.
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut error = ErrorText::default();
        if exchange(handle.0.as_ptr(), error.start()) {
            return Ok(());
        }
        Err(LostWorker {
            rank: self.rank,
            count: self.count,
            problem: error.text(),
        })
    }
}

impl Workers for ProcessGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn local_rank(&self) -> usize {
        self.local_rank
    }

    fn gather(&self, own: &Tensor, all: &mut Tensor) -> Result<(), LostWorker> {
        let (own, all) = (own.as_ptr().cast::<c_void>(), all.as_ptr().cast::<c_void>());
        self.call(|group, error| {
            // SAFETY: the pointers are to the `at::Tensor`s of borrowed tensors, whose sizes c10d compares.
            unsafe { retort_gather(group, own, all, error, ERROR_BYTES) }
        })
    }

    fn gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, LostWorker> {
        let lengths: Vec<u64> = self.all_gather(&[own.len() as u64])?;
        let longest = lengths.iter().copied().max().unwrap_or_default() as usize;
        if longest == 0 {
            return Ok(vec![Vec::new(); self.count]);
        }
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let all = self.all_gather(&padded)?;
        let parts = all.chunks(longest).zip(lengths);
        Ok(parts
            .map(|(part, length)| part[..length as usize].to_vec())
            .collect())
    }

    fn broadcast(&self, mut own: Vec<u8>) -> Result<Vec<u8>, LostWorker> {
        let mut length = (own.len() as u64).to_le_bytes();
        self.broadcast_in_place(&mut length)?;
        own.resize(u64::from_le_bytes(length) as usize, 0);
        self.broadcast_in_place(&mut own)?;
        Ok(own)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `retort_join_group` returned the pointer, and no other call has freed it.
        unsafe { retort_leave_group(self.0.as_ptr()) }
    }
}

/// A text that the C interface stores.
struct ErrorText([c_char; ERROR_BYTES]);

impl Default for ErrorText {
    fn default() -> Self {
        Self([0; ERROR_BYTES])
    }
}

impl ErrorText {
    fn start(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }

    /// The first line.
    fn text(&self) -> String {
        // SAFETY: the array starts as zeros, and the C interface ends its text with a zero byte within the capacity.
        let text = unsafe { CStr::from_ptr(self.0.as_ptr()) }.to_string_lossy();
        text.lines().next().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use tch::{Cuda, Device, Kind};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Calls `work` as each worker of a group, in threads of this process.
    fn as_group<T: Send>(
        size: usize,
        work: impl Fn(&ProcessGroup, &Rendezvous) -> T + Sync,
    ) -> Vec<T> {
        // Another program may take the port before rank 0 does.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let results: Vec<Result<T, RendezvousError>> = thread::scope(|scope| {
                let start = |rank| {
                    let work = &work;
                    scope.spawn(move || {
                        let rendezvous = Rendezvous {
                            host: "127.0.0.1".to_owned(),
                            port,
                            rank,
                            local_rank: rank,
                            size,
                            key_prefix: None,
                        };
                        let group = ProcessGroup::join(&rendezvous, TIMEOUT)?;
                        Ok(work(&group, &rendezvous))
                    })
                };
                let threads: Vec<_> = (0..size).map(start).collect();
                let results = threads.into_iter().map(|thread| thread.join().unwrap());
                results.collect()
            });
            if let Ok(results) = results.into_iter().collect::<Result<Vec<T>, _>>() {
                return results;
            }
        }
        panic!("five ports were taken");
    }

    /// Gathers two numbers of each worker on `device`.
    fn gather(group: &ProcessGroup, own: [f32; 2], device: Device) -> Result<Vec<f32>, LostWorker> {
        let own = Tensor::from_slice(&own).to_device(device);
        let count = 2 * group.count() as i64;
        let mut all = Tensor::zeros([count], (Kind::Float, device));
        group.gather(&own, &mut all)?;
        Ok(Vec::try_from(all).unwrap())
    }

    #[test]
    fn every_worker_gets_what_all_have_in_the_order_of_ranks() {
        let results = as_group(3, |group, _| {
            let rank = group.rank();
            assert_eq!(group.local_rank(), rank);
            let own = [rank as f32, f32::MIN_POSITIVE / 3.0];
            let numbers = gather(group, own, Device::Cpu).unwrap();
            let bytes = group.gather_bytes(&vec![rank as u8; rank * 2]).unwrap();
            let none = group.gather_bytes(&[]).unwrap();
            let own = vec![rank as u8 + 7; 2 - rank];
            (numbers, bytes, none, group.broadcast(own).unwrap())
        });
        let small = f32::MIN_POSITIVE / 3.0;
        let expected = (
            vec![0.0, small, 1.0, small, 2.0, small],
            vec![vec![], vec![1; 2], vec![2; 4]],
            vec![vec![]; 3],
            vec![7, 7],
        );
        assert_eq!(results, vec![expected; 3]);
    }

    #[test]
    fn workers_learn_that_one_has_left() {
        let results = as_group(2, |group, _| {
            let exchange = || gather(group, [0.0, 1.0], Device::Cpu);
            exchange().unwrap();
            (group.rank() == 1).then(|| exchange().unwrap_err())
        });
        let error = results[1].as_ref().unwrap();
        assert_eq!((error.rank, error.count), (1, 2));
        assert!(!error.problem.is_empty());
    }

    #[test]
    fn a_group_meets_at_a_store_that_another_program_serves_and_again_after_a_restart() {
        // The store belongs to the worker with rank 0 of the outer group, in place of `torchrun`.
        let results = as_group(2, |_, outer| {
            [0, 1].map(|restarts: usize| {
                let rendezvous = Rendezvous {
                    key_prefix: Some(format!("retort/attempt_{restarts}")),
                    ..outer.clone()
                };
                let group = ProcessGroup::join(&rendezvous, TIMEOUT).unwrap();
                let number = (10 * restarts + group.rank()) as f32;
                gather(&group, [number, 0.5], Device::Cpu).unwrap()
            })
        });
        let expected = [[0.0, 0.5, 1.0, 0.5], [10.0, 0.5, 11.0, 0.5]].map(Vec::from);
        assert_eq!(results, vec![expected; 2]);
    }

    #[test]
    fn tensors_of_different_sizes_are_refused() {
        let errors = as_group(2, |group, _| {
            let own = Tensor::zeros([2], (Kind::Float, Device::Cpu));
            let mut all = Tensor::zeros([3], (Kind::Float, Device::Cpu));
            group.gather(&own, &mut all).unwrap_err()
        });
        assert!(errors.iter().all(|error| !error.problem.is_empty()));
    }

    /// One worker shows that NCCL works; two show that it has the order of ranks. Without a GPU, nothing is tested.
    #[test]
    fn workers_on_gpus_get_what_all_have() {
        if !has_nccl() || !Cuda::is_available() {
            return;
        }
        let gpus = usize::try_from(Cuda::device_count()).unwrap();
        for count in 1..=gpus.min(2) {
            let results = as_group(count, |group, _| {
                let rank = group.rank();
                let own = [rank as f32, f32::MIN_POSITIVE / 3.0];
                let device = Device::Cuda(rank);
                let first = gather(group, own, device).unwrap();
                assert_eq!(gather(group, own, device).unwrap(), first);
                first
            });
            let expected = (0..count).flat_map(|rank| [rank as f32, f32::MIN_POSITIVE / 3.0]);
            assert_eq!(results, vec![expected.collect::<Vec<_>>(); count]);
        }
    }
}
