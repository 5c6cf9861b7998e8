// Keeps a phone's screen on while something uploads: when it sleeps, the network often does too.

/** 'off', 'asking', 'on', or 'refused' until it isn't wanted any more. */
let state = 'off';
let wanted = false;
let lock = null;

/** @param {boolean} yes may be called as often as one likes */
export async function keepAwake(yes) {
  wanted = yes;
  if (!yes) {
    lock?.release();
    lock = null;
    if (state !== 'asking') state = 'off';
  } else if (state === 'off' && document.visibilityState === 'visible') {
    state = 'asking';
    try {
      lock = await navigator.wakeLock.request('screen');
      state = 'on';
      // The browser takes it back when the page is hidden; the next call asks again.
      lock.addEventListener('release', () => { state = 'off'; });
    } catch {
      // Not supported, not a secure page, or the battery is low.
      state = 'refused';
    }
    if (!wanted) keepAwake(false);
  }
}
