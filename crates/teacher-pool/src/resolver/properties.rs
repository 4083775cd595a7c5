//! Answers of a name server, whatever they hold, are read or refused.

use proptest::prelude::*;
use simple_dns::{
    ResourceRecord,
    rdata::{A, AAAA},
};

use super::*;
use test_support::damage::{cases, foreign, in_modest_memory};

const V4: u32 = 0x0a00_0001;
const V6: u128 = 1;

fn answer(v4: &[u32], v6: &[u128]) -> Vec<u8> {
    let name = Name::new("teacher.example").unwrap();
    let mut packet = Packet::new_reply(7);
    let question = QTYPE::TYPE(TYPE::A);
    let class = QCLASS::CLASS(CLASS::IN);
    packet
        .questions
        .push(Question::new(name.clone(), question, class, false));
    let mut push = |rdata| {
        let record = ResourceRecord::new(name.clone(), CLASS::IN, 60, rdata);
        packet.answers.push(record);
    };
    v4.iter()
        .for_each(|address| push(RData::A(A { address: *address })));
    v6.iter()
        .for_each(|address| push(RData::AAAA(AAAA { address: *address })));
    packet.build_bytes_vec_compressed().unwrap()
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn a_foreign_answer_is_read_or_refused(answer in foreign(vec![answer(&[V4, 2], &[V6])])) {
        in_modest_memory(|| {
            if let Ok(packet) = Packet::parse(&answer) {
                let _ = packet.rcode();
                // No record is shorter than eleven bytes.
                assert!(addresses(&packet).count() <= answer.len() / 11);
            }
        });
    }

    #[test]
    fn addresses_arrive_as_they_were_sent(
        v4 in proptest::collection::vec(any::<u32>(), 0..5),
        v6 in proptest::collection::vec(any::<u128>(), 0..5),
    ) {
        let answer = answer(&v4, &v6);
        let packet = Packet::parse(&answer).unwrap();
        let found: Vec<IpAddr> = addresses(&packet).collect();
        let v4 = v4.into_iter().map(|address| IpAddr::V4(address.into()));
        let sent: Vec<_> = v4.chain(v6.into_iter().map(|address| IpAddr::V6(address.into()))).collect();
        prop_assert_eq!(found, sent);
    }
}
