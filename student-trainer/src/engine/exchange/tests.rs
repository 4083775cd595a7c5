use std::thread;

use networks::{NetworkSpec, Weights};
use tch::Kind;
use torch_distributed::Alone;
use torch_networks::{Mode, Precision};

use super::*;
use crate::engine::{gradients::Accumulation, in_process_workers::Meeting, loss::Loss};

/// A convolution with batch-norm, whose weight may be in another memory layout than row-major.
fn network() -> TorchNetwork {
    let spec = "input = [1, 6, 6]\nclasses = 3\npreset = \"resnet\"\nwidths = [4]";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let weights = Weights::initial(&spec, 1).unwrap();
    TorchNetwork::new(&spec, &weights, Device::Cpu).unwrap()
}

/// Different numbers for each tensor of the network.
fn contribution(network: &TorchNetwork, batch: i64) -> Contribution {
    let parameters = network.parameters().len();
    let numbers = network.tensors().enumerate().map(|(index, (_, tensor))| {
        let from = Tensor::arange(tensor.numel() as i64, (Kind::Float, Device::Cpu));
        let numbers = (from + (batch * 31 + index as i64)).sin();
        numbers.view(tensor.size().as_slice())
    });
    let mut gradients: Vec<Tensor> = numbers.collect();
    let statistics = gradients.split_off(parameters);
    let loss = Loss {
        total: Tensor::from(batch as f32 / 3.0),
        terms: vec![Tensor::from(0.25_f32), Tensor::from(batch as f32)],
    };
    let logits = Tensor::from_slice2(&[[2.0_f32, 1.0, 0.0], [0.0, 1.0, 0.0]]);
    let labels = Tensor::from_slice(&[0_i64, 2]);
    Contribution {
        gradients,
        statistics,
        sums: BatchSums::of(&loss, &logits, &labels).unwrap(),
    }
}

fn bits(tensors: &[Tensor]) -> Vec<Vec<u32>> {
    let values = tensors.iter().map(|it| flat(it).unwrap());
    let values = values.map(|it| Vec::<f32>::try_from(it).unwrap());
    values
        .map(|it| it.into_iter().map(f32::to_bits).collect())
        .collect()
}

/// What worker `worker` gets in a step of `batches` batches: gradients, statistics, loss and terms of each batch.
type Step = (Vec<Vec<u32>>, Vec<Vec<u32>>, Vec<Vec<u32>>);

fn step(worker: &dyn Workers, batches: usize) -> Step {
    let network = network();
    let exchange = Exchange::new(worker, &network, true, 2);
    let mut own = Vec::new();
    for batch in (worker.rank()..batches).step_by(worker.count()) {
        let next = contribution(&network, batch as i64);
        exchange.collect(&mut own, next).unwrap();
    }
    let kept = own.iter().filter(|it| !it.gradients.is_empty()).count();
    let most = if worker.count() == 1 { 1 } else { own.len() };
    assert_eq!(kept, most, "copies of the gradients");
    let rows = exchange.gather(&own, batches, Device::Cpu).unwrap();
    let parameters = network.parameters().iter();
    let parameters: Vec<_> = parameters.map(|(_, it)| it.shallow_clone()).collect();
    let gradients = rows.gradients(&parameters).unwrap();
    for (gradient, parameter) in gradients.iter().zip(&parameters) {
        assert_eq!(gradient.stride(), parameter.stride());
    }
    let before = network.copy_statistics().unwrap();
    let statistics = rows.statistics(&before).unwrap();
    let sums = rows.sums((0..batches).map(|_| 2)).unwrap();
    let sums = sums.into_iter().map(|sums| {
        assert_eq!((sums.correct.int64_value(&[]), sums.samples), (1, 2));
        let terms = bits(&sums.terms).concat();
        [bits(&[sums.loss]).concat(), terms].concat()
    });
    (bits(&gradients), bits(&statistics), sums.collect())
}

#[test]
fn workers_in_threads_get_the_step_of_a_single_one() {
    for batches in [1, 3, 4, 8] {
        let alone = step(&Alone, batches);
        assert_eq!(alone.2.len(), batches);
        for count in [2, 4] {
            let meeting = Meeting::of(count);
            let workers = meeting.workers();
            thread::scope(|scope| {
                let threads: Vec<_> = workers
                    .iter()
                    .map(|worker| scope.spawn(move || step(worker, batches)))
                    .collect();
                for thread in threads {
                    assert_eq!(thread.join().unwrap(), alone, "{batches} in {count}");
                }
            });
        }
    }
    assert_ne!(step(&Alone, 3).0, step(&Alone, 4).0);
}

#[test]
fn statistics_are_those_that_batch_norm_keeps_batch_by_batch() {
    let network = network();
    let batches: Vec<Tensor> = (0..3_i64)
        .map(|batch| {
            let values = Tensor::arange(8 * 36, (Kind::Float, Device::Cpu)) + batch * 1000;
            values.sin().view([8, 1, 6, 6])
        })
        .collect();
    let forward = |input: &Tensor| {
        let mode = Mode::Train { dropout_seed: 1 };
        drop(network.forward(input, mode, Precision::F32).unwrap());
    };
    let before = network.copy_statistics().unwrap();
    batches.iter().for_each(forward);
    let kept = network.copy_statistics().unwrap();

    network.restore_statistics(&before).unwrap();
    let exchange = Exchange::new(&Alone, &network, true, 2);
    let contributions = batches.iter().enumerate().map(|(batch, input)| {
        network.zero_statistics().unwrap();
        forward(input);
        Contribution {
            statistics: network.copy_statistics().unwrap(),
            ..contribution(&network, batch as i64)
        }
    });
    let contributions: Vec<_> = contributions.collect();
    let rows = exchange.gather(&contributions, 3, Device::Cpu).unwrap();
    for (found, expected) in rows.statistics(&before).unwrap().iter().zip(&kept) {
        let difference = (found - expected).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "{difference}");
    }
    let changes = kept.iter().zip(&before);
    let mut changes = changes.map(|(kept, before)| (kept - before).abs().max());
    assert!(changes.any(|change| change.double_value(&[]) > 1e-2));
}

#[test]
fn weighted_gradients_of_batches_add_up_to_those_of_all_samples() {
    let input = Tensor::arange(20, (Kind::Float, Device::Cpu))
        .sin()
        .view([10, 2]);
    let weight = Tensor::from_slice(&[0.5_f32, -0.25]).set_requires_grad(true);
    let gradient = |input: &Tensor, share: f64| {
        let loss = (input.mv(&weight).square().mean(Kind::Float)) * share;
        Tensor::run_backward(&[loss], &[&weight], false, false).remove(0)
    };
    let accumulation = Accumulation {
        batches: 3,
        batch_size: 4,
        samples: 10,
    };
    let rows = accumulation.batches_of(0).map(|batch| {
        let first = batch * 4;
        let size = 4.min(10 - first);
        let input = input.narrow(0, first as i64, size as i64);
        gradient(&input, size as f64 / accumulation.samples_of(0) as f64)
    });
    let rows = Rows {
        gradients: rows.collect(),
        statistics: Vec::new(),
        sums: Vec::new(),
    };
    let sum = rows.gradients(&[weight.shallow_clone()]).unwrap();
    let difference = (&sum[0] - &gradient(&input, 1.0)).abs().max();
    assert!(difference.double_value(&[]) < 1e-6, "{difference:?}");
}
