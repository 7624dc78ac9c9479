// npm's bittorrent-tracker on loopback: prints its port.
import Server from 'bittorrent-tracker/server'

const server = new Server({ udp: false, http: true, ws: false, stats: false })
server.on('listening', () => console.log(server.http.address().port))
server.listen(0, '127.0.0.1')
