// Asks before something is done that can't be undone.

const dialog = document.getElementById('confirm');
const part = (name) => document.getElementById(`confirm-${name}`);

/**
 * Asks, and says whether it was confirmed. The answer that changes nothing has the focus.
 * @param {{title: string, words: string, yes: string, no: string}} question
 */
export function confirm({ title, words, yes, no }) {
  part('title').textContent = title;
  part('words').textContent = words;
  part('yes').textContent = yes;
  part('no').textContent = no;
  // Escape leaves it as it was.
  dialog.returnValue = 'no';
  dialog.showModal();
  part('no').focus();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}
