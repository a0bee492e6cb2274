//! The same check in classic BPF, which needs no rights.
//!
//! A classic program has two registers of 32 bits, 16 words of memory, no loop and no clock. So the
//! key, and a second not far from now, are constants of it, and the words of SipHash are pairs of
//! halves; it has some 1,700 instructions, and takes half a microsecond. It is for a flood
//! only, and for who may not load any other. It counts nothing.
//!
//! See `bpf/ids.h` for what is computed.

use libc::{
    BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IMM, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP,
    BPF_K, BPF_LD, BPF_LDX, BPF_LEN, BPF_LSH, BPF_MEM, BPF_MISC, BPF_OR, BPF_RET, BPF_RSH, BPF_ST,
    BPF_SUB, BPF_TAX, BPF_W, BPF_X, BPF_XOR, SKF_AD_OFF, SKF_AD_RANDOM, SKF_NET_OFF, sock_filter,
};

/// Seconds from the future that an id may be from: a program is used for less than that.
pub(crate) const AHEAD_SECONDS: u32 = 1_200;

const UDP_HEADER_BYTES: u32 = 8;
const HEAD_BYTES: u32 = 16;
const ANNOUNCE_BYTES: u32 = 98;
const KEEP: u32 = u32::MAX;
const DROP: u32 = 0;

/// Instructions that drop all but a sample.
const DROP_MOST: u8 = 5;

/// Where things are, from the UDP header on.
const ID: u32 = UDP_HEADER_BYTES;
const ACTION: u32 = UDP_HEADER_BYTES + 8;

/// Where the sender's address is in the header of IP.
const V4_SOURCE: u32 = 12;
const V6_SOURCE: u32 = 8;

/// Words of memory: four of SipHash as halves, low ones first, and what is hashed.
const STATE: u8 = 0;
const SECOND: u8 = 8;
const SPARE: u8 = 9;
const WORDS: u8 = 10;

/// The sockets of an IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// A word of 64 bits in memory: its low half, and its high one.
#[derive(Clone, Copy, Debug)]
struct Word {
    low: u8,
    high: u8,
}

impl Word {
    fn swapped(self) -> Self {
        Self {
            low: self.high,
            high: self.low,
        }
    }
}

/// A program that keeps requests with an id that was issued with this key, and one of so many
/// other datagrams (a power of two), so that it shows when a flood is over. `now`: Unix time.
pub(crate) fn program(key: [u64; 2], version: Version, now: u32, one_of: u32) -> Vec<sock_filter> {
    let mut code = Code::default();
    code.look_at_head(one_of);
    code.find_second(now.wrapping_add(AHEAD_SECONDS));
    code.hash(key, version);
    code.compare();
    code.drop_most(one_of);
    code.0
}

#[derive(Default)]
struct Code(Vec<sock_filter>);

impl Code {
    fn push(&mut self, code: u32, k: u32) {
        self.0.push(instruction(code, 0, 0, k));
    }

    /// Compares the accumulator with `k`, and leaves out so many instructions.
    fn jump(&mut self, condition: u32, k: u32, if_true: u8, if_false: u8) {
        let code = BPF_JMP | condition | BPF_K;
        self.0.push(instruction(code, if_true, if_false, k));
    }

    fn load(&mut self, place: u8) {
        self.push(BPF_LD | BPF_MEM, place.into());
    }

    fn load_x(&mut self, place: u8) {
        self.push(BPF_LDX | BPF_MEM, place.into());
    }

    fn store(&mut self, place: u8) {
        self.push(BPF_ST, place.into());
    }

    /// A load beyond the end drops the datagram, so nothing is missed if that is meant anyway.
    fn load_bytes(&mut self, size: u32, offset: u32) {
        self.push(BPF_LD | size | BPF_ABS, offset);
    }

    fn a_to_x(&mut self) {
        self.push(BPF_MISC | BPF_TAX, 0);
    }

    fn alu(&mut self, operation: u32, k: u32) {
        self.push(BPF_ALU | operation | BPF_K, k);
    }

    fn alu_x(&mut self, operation: u32) {
        self.push(BPF_ALU | operation | BPF_X, 0);
    }

    /// Ends here, and drops all but one of so many. These are [`DROP_MOST`] instructions.
    fn drop_most(&mut self, one_of: u32) {
        let random = (SKF_AD_OFF + SKF_AD_RANDOM).cast_unsigned();
        self.push(BPF_LD | BPF_W | BPF_ABS, random);
        self.alu(BPF_AND, one_of.wrapping_sub(1));
        self.jump(BPF_JEQ, 0, 0, 1);
        self.push(BPF_RET | BPF_K, KEEP);
        self.push(BPF_RET | BPF_K, DROP);
    }

    /// Connects are kept, and most of what is no request is dropped.
    fn look_at_head(&mut self, one_of: u32) {
        let [high, low] = [0x417, 0x2710_1980];
        self.push(BPF_LD | BPF_W | BPF_LEN, 0);
        self.jump(BPF_JGE, UDP_HEADER_BYTES + HEAD_BYTES, DROP_MOST, 0);
        self.drop_most(one_of);
        self.load_bytes(BPF_W, ACTION);
        // A connect: with the right number, or none.
        self.jump(BPF_JEQ, 0, 0, 5 + DROP_MOST);
        self.load_bytes(BPF_W, ID);
        self.jump(BPF_JEQ, high, 0, 3);
        self.load_bytes(BPF_W, ID + 4);
        self.jump(BPF_JEQ, low, 0, 1);
        self.push(BPF_RET | BPF_K, KEEP);
        self.drop_most(one_of);
        // Neither an announce nor a scrape.
        self.jump(BPF_JGT, 2, 0, DROP_MOST);
        self.drop_most(one_of);
        // An announce that is too short.
        self.jump(BPF_JEQ, 1, 0, 2 + DROP_MOST);
        self.push(BPF_LD | BPF_W | BPF_LEN, 0);
        self.jump(BPF_JGE, UDP_HEADER_BYTES + ANNOUNCE_BYTES, DROP_MOST, 0);
        self.drop_most(one_of);
    }

    /// The whole second at which the id was issued, as the kernel's words are hashed: the last one
    /// before `newest` with its 16 bits.
    fn find_second(&mut self, newest: u32) {
        self.load_bytes(BPF_H, ID);
        self.a_to_x();
        self.push(BPF_LD | BPF_IMM, newest);
        self.alu_x(BPF_SUB);
        self.alu(BPF_AND, 0xffff);
        self.a_to_x();
        self.push(BPF_LD | BPF_IMM, newest);
        self.alu_x(BPF_SUB);
        self.store(SECOND);
    }

    /// Four bytes of the header of IP, the first of them lowest.
    fn load_address(&mut self, offset: u32) {
        let offset = SKF_NET_OFF.cast_unsigned().wrapping_add(offset);
        self.load_bytes(BPF_B, offset);
        for byte in 1..4 {
            self.store(SPARE);
            self.load_bytes(BPF_B, offset.wrapping_add(byte));
            self.alu(BPF_LSH, 8 * byte);
            self.load_x(SPARE);
            self.alu_x(BPF_OR);
        }
    }

    fn hash(&mut self, [key0, key1]: [u64; 2], version: Version) {
        let mut words = [0, 2, 4, 6].map(|place| Word {
            low: STATE + place,
            high: STATE + place + 1,
        });
        let start = [
            key0 ^ 0x736f_6d65_7073_6575,
            key1 ^ 0x646f_7261_6e64_6f6d,
            key0 ^ 0x6c79_6765_6e65_7261,
            key1 ^ 0x7465_6462_7974_6573,
        ];
        for (word, value) in words.iter().zip(start) {
            self.set(*word, value);
        }
        // 20 bytes: an address of 16, IPv4 as ::ffff:a.b.c.d, and the second.
        match version {
            Version::V4 => {
                self.load_address(V4_SOURCE);
                self.store(WORDS);
                self.mix(&mut words, Part::Constant(0), Part::Constant(0));
                self.mix(&mut words, Part::Constant(0xffff_0000), Part::Memory(WORDS));
            }
            Version::V6 => {
                for half in 0..2 {
                    for part in 0..2 {
                        let offset = V6_SOURCE + 8 * half + 4 * part;
                        self.load_address(offset);
                        self.store(WORDS + u8::from(part == 1));
                    }
                    self.mix(&mut words, Part::Memory(WORDS), Part::Memory(WORDS + 1));
                }
            }
        }
        self.mix(&mut words, Part::Memory(SECOND), Part::Constant(20 << 24));
        self.xor_part(words[2].low, Part::Constant(0xff));
        for _ in 0..4 {
            self.round(&mut words);
        }
        let [v0, v1, v2, v3] = words;
        for other in [v1, v2, v3] {
            self.xor(v0, other);
        }
        // Where the comparison looks for them.
        self.load(v0.low);
        self.store(SPARE);
        self.load(v0.high);
        self.alu(BPF_AND, 0xffff);
        self.store(WORDS);
    }

    /// What has the right hash is kept.
    fn compare(&mut self) {
        self.load_bytes(BPF_H, ID + 2);
        self.load_x(WORDS);
        self.0.push(instruction(BPF_JMP | BPF_JEQ | BPF_X, 0, 4, 0));
        self.load_bytes(BPF_W, ID + 4);
        self.load_x(SPARE);
        self.0.push(instruction(BPF_JMP | BPF_JEQ | BPF_X, 0, 1, 0));
        self.push(BPF_RET | BPF_K, KEEP);
    }

    fn set(&mut self, word: Word, value: u64) {
        let [low, high] = [value & u64::from(u32::MAX), value >> 32];
        for (place, half) in [(word.low, low), (word.high, high)] {
            self.push(BPF_LD | BPF_IMM, u32::try_from(half).unwrap_or(0));
            self.store(place);
        }
    }

    fn mix(&mut self, words: &mut [Word; 4], low: Part, high: Part) {
        for (part, of) in [(low, words[3].low), (high, words[3].high)] {
            self.xor_part(of, part);
        }
        self.round(words);
        self.round(words);
        for (part, of) in [(low, words[0].low), (high, words[0].high)] {
            self.xor_part(of, part);
        }
    }

    fn round(&mut self, words: &mut [Word; 4]) {
        let [v0, v1, v2, v3] = words;
        self.add(*v0, *v1);
        self.rotate(*v1, 13);
        self.xor(*v1, *v0);
        // To turn a word by 32 bits is to take one half for the other.
        *v0 = v0.swapped();
        self.add(*v2, *v3);
        self.rotate(*v3, 16);
        self.xor(*v3, *v2);
        self.add(*v0, *v3);
        self.rotate(*v3, 21);
        self.xor(*v3, *v0);
        self.add(*v2, *v1);
        self.rotate(*v1, 17);
        self.xor(*v1, *v2);
        *v2 = v2.swapped();
    }

    fn xor_part(&mut self, place: u8, part: Part) {
        match part {
            Part::Constant(0) => return,
            Part::Constant(value) => {
                self.load(place);
                self.alu(BPF_XOR, value);
            }
            Part::Memory(other) => {
                self.load(place);
                self.load_x(other);
                self.alu_x(BPF_XOR);
            }
        }
        self.store(place);
    }

    fn xor(&mut self, word: Word, other: Word) {
        self.xor_part(word.low, Part::Memory(other.low));
        self.xor_part(word.high, Part::Memory(other.high));
    }

    fn add(&mut self, word: Word, other: Word) {
        self.load(word.low);
        self.load_x(other.low);
        self.alu_x(BPF_ADD);
        self.store(word.low);
        // The sum of the low halves is less than either only if one is to be carried.
        let has_carry = instruction(BPF_JMP | BPF_JGE | BPF_X, 0, 4, 0);
        self.0.push(has_carry);
        // None.
        self.load(word.high);
        self.load_x(other.high);
        self.alu_x(BPF_ADD);
        self.0.push(instruction(BPF_JMP | libc::BPF_JA, 0, 0, 4));
        // One.
        self.load(word.high);
        self.load_x(other.high);
        self.alu_x(BPF_ADD);
        self.alu(BPF_ADD, 1);
        self.store(word.high);
    }

    /// Turns it to the left by less than 32 bits.
    fn rotate(&mut self, word: Word, bits: u32) {
        let (up, down) = (bits, 32 - bits);
        // The new high half, into spare memory.
        self.load(word.low);
        self.alu(BPF_RSH, down);
        self.a_to_x();
        self.load(word.high);
        self.alu(BPF_LSH, up);
        self.alu_x(BPF_OR);
        self.store(SPARE);
        // The new low half.
        self.load(word.high);
        self.alu(BPF_RSH, down);
        self.a_to_x();
        self.load(word.low);
        self.alu(BPF_LSH, up);
        self.alu_x(BPF_OR);
        self.store(word.low);
        self.load(SPARE);
        self.store(word.high);
    }
}

/// Half of a word.
#[derive(Clone, Copy, Debug)]
enum Part {
    Constant(u32),
    Memory(u8),
}

fn instruction(code: u32, if_true: u8, if_false: u8, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: if_true,
        jf: if_false,
        k,
    }
}
