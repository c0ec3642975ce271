// Makes large photographs smaller before they are uploaded: sending, opening and showing those of a camera as they are
// takes half a minute. What was made here is never that large, and goes as it is, with the recipe inside.
(() => {
  const LONGEST = 2048;  // px of the longer side
  const SMALL = 300_000;  // bytes; whatever is smaller is sent at once
  const TAKEN = 'input[type=file][accept^="image/"], #style-files *';  // not where a recipe is wanted of a PNG
  const ready = new WeakSet();  // events of our own, to be let through

  const smaller = async (file) => {
    let picture;
    try {
      picture = await createImageBitmap(file);  // upright, whatever its EXIF says
    } catch {
      return file;  // the server may be able to read it, and says what is wrong where it is not
    }
    const scale = LONGEST / Math.max(picture.width, picture.height);
    if (scale >= 1) return file;
    const canvas = new OffscreenCanvas(Math.round(picture.width * scale), Math.round(picture.height * scale));
    const context = canvas.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    const type = file.type === 'image/png' ? file.type : 'image/jpeg';
    return new File([await canvas.convertToBlob({ type, quality: 0.95 })], file.name, { type });
  };

  const all = async (files) => {
    const bar = document.createElement('div');
    bar.className = 'making-smaller';
    bar.setAttribute('role', 'status');
    bar.innerHTML = '<span>Making large pictures smaller</span><progress aria-label="Making pictures smaller"></progress>';
    document.body.append(bar);
    const moved = new DataTransfer();
    try {
      for (const [done, file] of files.entries()) {
        if (files.length > 1) Object.assign(bar.lastChild, { max: files.length, value: done });
        moved.items.add(file.type.startsWith('image/') ? await smaller(file) : file);
      }
    } finally {
      bar.remove();
    }
    return moved;
  };

  const first = (kind, filesOf, again) => document.addEventListener(kind, (event) => {
    const files = [...filesOf(event) ?? []];
    if (ready.has(event) || !event.target.matches?.(TAKEN)) return;
    if (!files.some((file) => file.type.startsWith('image/') && file.size > SMALL)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    all(files).then((moved) => {
      const next = again(event, moved);
      ready.add(next);
      event.target.dispatchEvent(next);
    });
  }, { capture: true });

  first('change', (event) => event.target.files, (event, moved) => {
    event.target.files = moved.files;
    return new Event('change', { bubbles: true });
  });
  first('drop', (event) => event.dataTransfer?.files, (_, moved) =>
    new DragEvent('drop', { dataTransfer: moved, bubbles: true, cancelable: true }));
})();
