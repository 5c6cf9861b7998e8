// Keeps a phone's screen on while something uploads: when it sleeps, the network often does too.

let lock = null;
let wanted = false;

/** @param {boolean} yes */
export async function keepAwake(yes) {
  if (wanted === yes && (lock !== null) === yes) return;
  wanted = yes;
  if (!yes) {
    lock?.release();
    lock = null;
  } else if (document.visibilityState === 'visible') {
    try {
      const fresh = await navigator.wakeLock.request('screen');
      // The browser takes it back when the page is hidden; the next call asks again.
      fresh.addEventListener('release', () => { if (lock === fresh) lock = null; });
      lock = fresh;
      if (!wanted) keepAwake(false);
    } catch { /* not supported, not secure or low battery: nothing to be done */ }
  }
}
