// p2pt: the tracker client of WebTorrent, and messages between those whom it finds.

import P2PT from 'p2pt'

export async function join ({ announce, swarm, greeting, onMessage, onPeers }) {
  const p2pt = new P2PT(announce, swarm)
  const count = () => onPeers(Object.keys(p2pt.peers).length)
  p2pt.on('peerconnect', peer => {
    count()
    p2pt.send(peer, greeting)
  })
  p2pt.on('peerclose', count)
  p2pt.on('msg', (_, text) => onMessage(text))
  await p2pt.start()
}
