// bugout: messages over the wires of a torrent that every page seeds.

export async function join ({ announce, swarm, peerId, greeting, onMessage, onPeers }) {
  await loadScript('/packages/bugout/docs/bugout.min.js')
  const bugout = new window.Bugout(swarm, { announce, iceServers: [], wtOpts: { peerId } })
  // Messages also come by way of others: the wires say who is connected.
  bugout.on('connections', () => {
    onPeers(new Set(bugout.torrent.wires.map(wire => wire.peerId)).size)
  })
  bugout.on('seen', address => bugout.send(address, greeting))
  bugout.on('message', (_, text) => onMessage(text))
}

// It is made for classic script elements.
function loadScript (src) {
  const script = document.createElement('script')
  script.src = src
  document.head.append(script)
  return new Promise((resolve, reject) => {
    script.onload = resolve
    script.onerror = reject
  })
}
