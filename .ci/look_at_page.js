// What is wrong with the page as it is shown: a list of lines, one for each kind of fault. See check_pages.py.
() => {
  const root = document.documentElement;
  const faults = new Map();  // a key for what has one cause, and the first that was found of it
  const report = (key, text) => { if (!faults.has(key)) faults.set(key, text); };
  const words = (e) => JSON.stringify(e.textContent.trim().replace(/\s+/g, ' ').slice(0, 50));
  const tag = (e) => [e.tagName.toLowerCase(), ...e.classList].slice(0, 2).join('.');
  const place = (e) => [e.parentElement?.parentElement, e.parentElement, e].filter(Boolean).map(tag).join(' ');
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true });

  if (root.scrollWidth > root.clientWidth)
    report('wide', `the page is ${root.scrollWidth} px wide in a window of ${root.clientWidth}`);

  for (const image of document.querySelectorAll('article img')) {
    const box = image.getBoundingClientRect();
    const file = image.getAttribute('src').slice(0, 60);
    const stretch = box.width / box.height / (image.naturalWidth / image.naturalHeight);
    if (!image.naturalWidth) report(file, `picture ${file} is missing`);
    else if (Math.abs(stretch - 1) > 0.02) report(file, `picture ${file} is stretched by ${stretch.toFixed(2)}`);
  }

  const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  for (const e of document.querySelectorAll('article *')) {
    const box = e.getBoundingClientRect();
    if (box.width && box.right > root.clientWidth + 1 && shown(e) && !scrolls(e))
      report(`cut ${place(e)}`, `cut off at the right: ${place(e)} ${words(e)}`);
  }

  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const known = new Map();  // of a color in CSS: red, green, blue in 0 to 255, and its opacity
  const rgba = (css) => {
    if (!known.has(css)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = css;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(css, [r, g, b, a / 255]);
    }
    return known.get(css);
  };
  const over = (top, under) => [0, 1, 2].map((k) => top[k] * top[3] + under[k] * (1 - top[3]));
  const background = (e) => e ? over(rgba(getComputedStyle(e).backgroundColor), background(e.parentElement)) : [255, 255, 255];
  const linear = (v) => v <= 0.04045 * 255 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !shown(e) || e.closest('script, style, noscript, svg')) continue;
    const box = e.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const style = getComputedStyle(e);
    const size = parseFloat(style.fontSize);
    if (size < 12) report(`small ${place(e)}`, `letters of ${size.toFixed(1)} px: ${place(e)} ${words(e)}`);
    const under = background(e);
    const [low, high] = [luminance(over(rgba(style.color), under)), luminance(under)].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < (size >= 24 || (size >= 18.6 && style.fontWeight >= 700) ? 3 : 4.5))
      report(`faint ${style.color} ${under}`, `contrast of ${contrast.toFixed(1)}: ${place(e)} ${words(e)}`);
  }
  return [...faults.values()];
}
