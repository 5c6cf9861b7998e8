// Stands for your own login. Landfall itself does not read the token: a hook or
// the proxy in front of it does, and refuses uploads of people who may not make them.
const token = import.meta.env.VITE_UPLOAD_TOKEN ?? 'demo-token'

/** The token of whoever is signed in, asked again before every request. */
export function currentToken() {
  return token
}
