// npm's oidc-provider on loopback: <port> <file of accounts> <address of the client>.
// Entering the name of an account signs in as it. Every start makes a new key.
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import Provider from 'oidc-provider'

const [port, accounts, client] = process.argv.slice(2)
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const key = { ...privateKey.export({ format: 'jwk' }), kid: randomBytes(8).toString('hex'), use: 'sig', alg: 'ES256' }

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: 'vodbucket',
      client_secret: 'a secret+with/signs%2B',
      redirect_uris: [`${client}/api/oidc/callback`],
      post_logout_redirect_uris: [`${client}/`],
      id_token_signed_response_alg: 'ES256',
    },
  ],
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'], groups: ['groups'] },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
  findAccount: (_, id) => {
    const claims = JSON.parse(readFileSync(accounts, 'utf8'))[id]
    return claims && { accountId: id, claims: () => ({ sub: id, ...claims }) }
  },
  jwks: { keys: [key] },
})
provider.listen(Number(port), '127.0.0.1')
