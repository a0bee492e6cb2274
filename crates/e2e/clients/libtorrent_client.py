"""A BitTorrent client with one torrent: libtorrent-rasterbar and nothing around it.

Usage: libtorrent_client.py LISTEN_ADDRESS TORRENT_FILE CONTENT_FOLDER

Finds peers through the torrent's tracker only. Runs until SIGTERM, then leaves its swarm.
"""

import signal
import sys

import libtorrent

ALERT_WAIT_MS = 200
STOP_ATTEMPTS_MAX = 50


def main():
    listen_address, torrent_file, content_folder = sys.argv[1:]
    ip, port = listen_address.rsplit(":", 1)
    categories = libtorrent.alert.category_t

    session = libtorrent.session(
        {
            "listen_interfaces": listen_address,
            # Peers must see the address that the tracker was told, also when there are several.
            "outgoing_interfaces": ip.strip("[]"),
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            # On loopback all clients share one address. By default a second peer at an address is
            # taken for the first one again, and our own announce is the first.
            "allow_multiple_connections_per_ip": True,
            # TCP only: one protocol less whose start-up could be the reason of a failure.
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            # What happens, and not each step on the way: with the logs of its peers, libtorrent
            # 2.0.8 crashes or stands still in one of a hundred transfers on a busy machine.
            "alert_mask": categories.error_notification
            | categories.peer_notification
            | categories.connect_notification
            | categories.status_notification
            | categories.storage_notification
            | categories.tracker_notification,
        }
    )
    torrent = session.add_torrent(
        {"ti": libtorrent.torrent_info(torrent_file), "save_path": content_folder}
    )

    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    while not stopping:
        print_alerts(session)

    # Leaving is an announce of its own; the process must live until it has been answered.
    torrent.pause()
    for _ in range(STOP_ATTEMPTS_MAX):
        alerts = print_alerts(session)
        if any(isinstance(alert, libtorrent.tracker_reply_alert) for alert in alerts):
            break


def print_alerts(session):
    session.wait_for_alert(ALERT_WAIT_MS)
    alerts = session.pop_alerts()
    for alert in alerts:
        print(alert.what(), alert.message())
    return alerts


main()
