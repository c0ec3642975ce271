() => {
  // Runs once. Remembers light or dark, gives the page its language, and mends
  // what assistive technology would trip over.
  document.documentElement.lang = 'en';
  const kept = localStorage.getItem('amused-shade');
  if (kept) document.body.classList.toggle('dark', kept === 'dark');
  const mend = () => {
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
  const fit = () => setTimeout(() => window.dispatchEvent(new Event('resize')), 300);  // a canvas that was hidden
  const opens = '[role=tab], #to-edit, #history-edit';
  document.addEventListener('click', (event) => { if (event.target.closest(opens)) fit(); });
  document.addEventListener('keydown', (event) => {  // from tab to tab, as everywhere
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const tab = way && event.target.closest('[role=tab]');
    if (!tab) return;
    const all = [...tab.parentElement.querySelectorAll('[role=tab]')];
    all[(all.indexOf(tab) + way + all.length) % all.length].focus();
  });
  mend();
  let due = 0;
  new MutationObserver(() => { clearTimeout(due); due = setTimeout(mend, 150); })
    .observe(document.body, { childList: true, subtree: true });
}
