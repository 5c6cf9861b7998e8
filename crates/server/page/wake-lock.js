// Keeps the screen of a phone on during uploads, since sleep often suspends the network.

/** 'off', 'requesting', 'on', or 'unavailable' until it is no longer wanted. */
let state = 'off';
let wanted = false;
let lock = null;

/** @param {boolean} yes idempotent */
export async function keepAwake(yes) {
  wanted = yes;
  if (!yes) {
    lock?.release();
    lock = null;
    if (state !== 'requesting') state = 'off';
  } else if (state === 'off' && document.visibilityState === 'visible') {
    state = 'requesting';
    try {
      lock = await navigator.wakeLock.request('screen');
      state = 'on';
      // The browser releases it when the page is hidden; the next call requests it again.
      lock.addEventListener('release', () => { state = 'off'; });
    } catch {
      // Not supported, no secure context, or low battery.
      state = 'unavailable';
    }
    if (!wanted) keepAwake(false);
  }
}
