() => {
  // Runs once. Remembers light or dark, gives the page its language, makes photographs smaller before they are sent, and
  // mends what assistive technology would trip over.
  document.documentElement.lang = 'en';
  const kept = localStorage.getItem('amused-shade');
  if (kept) document.body.classList.toggle('dark', kept === 'dark');
  const mend = () => {
    follow();
    document.querySelectorAll('#tools .gallery-item:not(:first-child)').forEach((item) => { item.tabIndex = -1; });
    document.querySelectorAll('input[type=file]:not([aria-label])').forEach((input) => {
      const block = input.closest('.block');
      const label = block && block.querySelector('[data-testid=block-label], label');
      input.setAttribute('aria-label', (label && label.textContent.trim()) || 'Choose a file');
    });
    document.querySelectorAll('input[type=range]:not([aria-label])').forEach((input) => {
      const named = input.id && document.querySelector(`label[for="${input.id}"]`);
      const block = input.closest('.block');
      const label = named || (block && block.querySelector('label, [data-testid=block-info]'));
      input.setAttribute('aria-label', (label && label.textContent.trim()) || 'Value');
    });
    document.querySelectorAll('button:not([aria-label])').forEach((button) => {
      if (!button.textContent.trim() && button.title) button.setAttribute('aria-label', button.title);
    });
    document.querySelectorAll('button:has(button):not([role])').forEach((button) => {  // the one inside does the work
      button.setAttribute('role', 'group');
      button.setAttribute('aria-label', 'More pictures');
      Object.assign(button, { title: 'Add pictures', tabIndex: -1 });
    });
  };
  document.addEventListener('input', ({ target }) => {  // how much of the picture before is seen
    if (target.matches('.compare')) target.closest('.stage').style.setProperty('--before', `${target.value}%`);
  });
  const mostSent = 2048;  // px of a photograph's longer side: what is drawn anew has 512
  const scaled = async (file) => {
    if (!['image/jpeg', 'image/webp'].includes(file.type)) return file;  // a PNG may be ours, with its recipe
    const bitmap = await createImageBitmap(file);
    const share = mostSent / Math.max(bitmap.width, bitmap.height);
    if (share >= 1) return file;
    const canvas = new OffscreenCanvas(Math.round(bitmap.width * share), Math.round(bitmap.height * share));
    canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    const type = 'image/jpeg';
    return new File([await canvas.convertToBlob({ type, quality: 0.95 })], file.name, { type });
  };
  document.addEventListener('change', async (event) => {
    const input = event.target;
    if (input.type !== 'file' || input.scaled) return;
    event.stopImmediatePropagation();
    const bar = Object.assign(document.createElement('progress'), { className: 'scaling' });
    const files = [...input.files], kept = new DataTransfer();
    Object.assign(bar, { max: files.length, value: 0 }).setAttribute('aria-label', 'Making photographs smaller');
    document.body.append(bar);
    for (const file of files) {
      kept.items.add(await scaled(file).catch(() => file));  // what no browser opens, the server may
      bar.value += 1;
    }
    bar.remove();
    Object.assign(input, { files: kept.files, scaled: true });
    input.dispatchEvent(new Event('change', { bubbles: true }));
    input.scaled = false;
  }, true);
  document.addEventListener('keydown', (event) => {  // out of a mode, unless it closes something within it
    if (event.key !== 'Escape' || event.target.ariaExpanded === 'true') return;
    if (document.querySelector('.large:popover-open')) return;
    document.querySelector('.back-button:not(.hidden)')?.click();
  }, true);
  const group = '[role=tab], #tools .gallery-item';  // the Tab key goes past it, the arrow keys go through it
  document.addEventListener('keydown', (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const one = way && event.target.closest(group);
    if (!one) return;
    const all = [...one.parentElement.querySelectorAll(group)];
    all[(all.indexOf(one) + way + all.length) % all.length].focus();
  });
  let mode;
  const follow = () => {  // the focus goes into a mode and back to the button that led there
    const now = document.querySelector('#edit-mode, #look-mode')?.id;
    if (now === mode) return;
    const to = now ? `#${now} input:checked` : { 'edit-mode': '#to-edit', 'look-mode': '#to-look' }[mode];
    document.querySelector(to)?.focus({ preventScroll: true });
    mode = now;
  };
  mend();
  let due = 0;
  new MutationObserver(() => { clearTimeout(due); due = setTimeout(mend, 150); })
    .observe(document.body, { childList: true, subtree: true });
}
