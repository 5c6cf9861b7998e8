// The upload links with their limits and numbers of files, and a button that revokes one.

import * as api from './api.js';
import { announce } from './announce.js';
import { confirm } from './confirm.js';
import { bytes, number, timeElement } from './format.js';

const place = document.getElementById('links');

let shown = '';

/** Loads and shows the links. */
export async function refresh() {
  const { links } = await api.links();
  const text = JSON.stringify(links);
  if (text === shown) return;
  shown = text;
  const list = document.createElement('ul');
  list.className = 'plain';
  list.append(...links.map(item));
  const none = document.createElement('p');
  none.className = 'soft';
  none.textContent = 'None. Create one with “landfall link”.';
  place.replaceChildren(links.length > 0 ? list : none);
}

function item(link) {
  const element = document.createElement('li');
  const name = document.createElement('strong');
  name.textContent = link.name;
  const files = link.max_files === null ? number(link.files) : `${number(link.files)} of ${number(link.max_files)}`;
  const size = link.max_size === null ? '' : `, up to ${bytes(link.max_size)} each`;
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'quiet';
  button.append('Revoke', hidden(` ${link.name}`));
  button.addEventListener('click', () => revoke(link));
  element.append(name, ` · files: ${files}${size}`);
  if (link.expires_at) {
    const isOver = new Date(link.expires_at) <= new Date();
    element.append(isOver ? ' · expired ' : ' · expires ', timeElement(link.expires_at));
  }
  element.append(' ', button);
  return element;
}

async function revoke(link) {
  const isConfirmed = await confirm({
    title: 'Revoke this link?',
    message: `${link.name}: no one can upload with it any more. Its files stay, and uploads that have begun continue.`,
    yes: 'Revoke',
    no: 'Keep',
  });
  if (!isConfirmed) return;
  try {
    await api.revokeLink(link.id);
    await refresh();
    announce(`${link.name} revoked.`);
  } catch (error) {
    announce(error.message);
  }
}

function hidden(text) {
  const element = document.createElement('span');
  element.className = 'visually-hidden';
  element.textContent = text;
  return element;
}
