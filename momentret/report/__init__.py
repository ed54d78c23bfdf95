"""Answers to look at: a page and a contact sheet with pictures out of the videos. Nothing is searched here."""

from momentret.report.page import render_page
from momentret.report.sheet import draw_sheet, require_room
from momentret.report.thumbnails import Pictures, take_pictures
from momentret.report.view import view_answers

__all__ = ["Pictures", "draw_sheet", "render_page", "require_room", "take_pictures", "view_answers"]
