// trystero: a room of pages. Its peer id is one per load of a page.

import { joinRoom } from '@trystero-p2p/torrent'

export function join ({ announce, swarm, greeting, onMessage, onPeers }) {
  const config = {
    appId: 'aquatic-e2e',
    relayConfig: { urls: announce },
    rtcConfig: { iceServers: [] }
  }
  const room = joinRoom(config, swarm)
  const action = room.makeAction('greeting')
  action.onMessage = onMessage
  room.onPeerJoin = peer => {
    onPeers(Object.keys(room.getPeers()).length)
    action.send(greeting, { target: peer })
  }
  room.onPeerLeave = () => onPeers(Object.keys(room.getPeers()).length)
}
