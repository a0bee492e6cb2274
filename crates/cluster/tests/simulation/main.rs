//! A seeded simulation of a cluster: real shards, real engines, and a bus, clocks and peers that
//! are made up. A model knows who is in which swarm, and each node is compared with it.
//!
//! | module | contents |
//! |---|---|
//! | [`node`] | a node, in one thread |
//! | [`population`] | peers, and so the model |
//! | [`cluster`] | nodes, what they are connected by, and who announces to them |
//! | [`measures`] | what nodes know, compared with what there is |
//! | all others | what must hold |

mod answers;
mod cluster;
mod growth;
mod hostile;
mod hundred;
mod interruptions;
mod intervals;
mod large;
mod measures;
mod moving;
mod node;
mod population;
mod steady;
