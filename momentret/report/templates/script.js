
"use strict";
// A small picture, or a place on the timeline, starts the video there.
const playFrom = (element, time) => {
  const video = element.closest("article").querySelector("video");
  if (!video) return;
  video.currentTime = time;
  video.play().catch(() => {});
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-time]");
  if (button) playFrom(button, Number(button.dataset.time));
  const timeline = event.target.closest("svg[data-duration]");
  if (timeline) {
    const box = timeline.getBoundingClientRect();
    playFrom(timeline, ((event.clientX - box.left) / box.width) * Number(timeline.dataset.duration));
  }
});
// A file that the browser cannot play keeps its picture, and says so.
document.addEventListener("error", (event) => {
  const video = event.target;
  if (video.tagName !== "VIDEO" || video.dataset.told) return;
  video.dataset.told = "1";
  const note = document.createElement("p");
  note.className = "problem";
  note.textContent = "This browser cannot play the file; open it by its name, or cut the moment out.";
  video.after(note);
}, true);
