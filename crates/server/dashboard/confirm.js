// The confirmation dialog for irreversible actions.

const dialog = document.getElementById('confirm');
const part = (name) => document.getElementById(`confirm-${name}`);

/**
 * Opens the dialog; resolves to whether the user confirmed. The safe answer has the focus.
 * @param {{title: string, message: string, yes: string, no: string}} question
 */
export function confirm({ title, message, yes, no }) {
  part('title').textContent = title;
  part('message').textContent = message;
  part('yes').textContent = yes;
  part('no').textContent = no;
  // The result of Escape.
  dialog.returnValue = 'no';
  dialog.showModal();
  part('no').focus();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}
