"""What the demo's videos show, and what people call it, in English and in Chinese."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = ("en", "zh")
# By language.
Synonyms = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Theme:
    """A place.

    Attributes:
        group: Its category, which it shares with other themes.
        subjects: What can be seen there, names in ``SUBJECTS``.
        places: By language, phrases that say where (English ones with their preposition).
        tags: By language.
    """

    group: str
    subjects: tuple[str, ...]
    places: Synonyms
    tags: Synonyms


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that moves through the picture.

    Attributes:
        family: What it shares with related subjects.
        names: By language, synonyms; the first two are also tags.
    """

    family: str
    names: Synonyms


THEMES = {
    "sea": Theme(
        group="nature",
        subjects=("sailboat", "bird", "fish", "turtle", "kite", "jellyfish"),
        places={
            "en": ("at sea", "by the ocean", "on the coast", "at the beach"),
            "zh": ("海边", "海上", "大海", "沙滩上"),
        },
        tags={"en": ("sea", "ocean"), "zh": ("大海", "海边")},
    ),
    "forest": Theme(
        group="nature",
        subjects=("deer", "bird", "butterfly", "rabbit", "drone", "dog"),
        places={
            "en": ("in the forest", "in the woods", "under the trees"),
            "zh": ("森林里", "树林里", "林间"),
        },
        tags={"en": ("forest", "trees"), "zh": ("森林", "树木")},
    ),
    "snow": Theme(
        group="nature",
        subjects=("dog", "deer", "rabbit", "balloon", "car", "player"),
        places={
            "en": ("in the snow", "on a mountain", "in winter", "up in the alps"),
            "zh": ("雪地里", "雪山上", "冬天", "冰天雪地里"),
        },
        tags={"en": ("snow", "mountain"), "zh": ("雪山", "冬天")},
    ),
    "desert": Theme(
        group="nature",
        subjects=("camel", "car", "balloon", "ufo", "player"),
        places={
            "en": ("in the desert", "on the dunes", "in the sahara"),
            "zh": ("沙漠里", "沙丘上", "戈壁滩"),
        },
        tags={"en": ("desert", "dunes"), "zh": ("沙漠", "沙丘")},
    ),
    "city": Theme(
        group="travel",
        subjects=("car", "bus", "cat", "drone", "bird", "ufo"),
        places={
            "en": ("downtown", "in the city", "on the street", "between skyscrapers"),
            "zh": ("城市里", "街头", "市中心", "高楼之间"),
        },
        tags={"en": ("city", "street"), "zh": ("城市", "街道")},
    ),
    "railway": Theme(
        group="travel",
        subjects=("train", "car", "balloon", "bird"),
        places={
            "en": ("on the railway", "along the tracks", "across the country"),
            "zh": ("铁路上", "铁轨旁", "旅途中"),
        },
        tags={"en": ("railway", "journey"), "zh": ("铁路", "旅行")},
    ),
    "kitchen": Theme(
        group="life",
        subjects=("pot", "tomato", "cat", "fish"),
        places={
            "en": ("in the kitchen", "on the stove", "at my cooking class"),
            "zh": ("厨房里", "灶台上", "美食课堂"),
        },
        tags={"en": ("kitchen", "cooking"), "zh": ("厨房", "美食")},
    ),
    "garden": Theme(
        group="life",
        subjects=("butterfly", "cat", "dog", "rabbit", "tomato", "kite", "ball"),
        places={
            "en": ("in the garden", "among the flowers", "in our backyard"),
            "zh": ("花园里", "花丛中", "院子里"),
        },
        tags={"en": ("garden", "flowers"), "zh": ("花园", "鲜花")},
    ),
    "football": Theme(
        group="show",
        subjects=("ball", "player", "dog", "drone"),
        places={
            "en": ("in the stadium", "on the pitch", "at the cup final"),
            "zh": ("球场上", "体育场", "比赛中"),
        },
        tags={"en": ("stadium", "match"), "zh": ("球场", "比赛")},
    ),
    "concert": Theme(
        group="show",
        subjects=("singer", "guitar", "drone", "balloon"),
        places={
            "en": ("on stage", "at the concert", "live at the festival"),
            "zh": ("舞台上", "演唱会", "音乐节现场"),
        },
        tags={"en": ("concert", "music"), "zh": ("演唱会", "音乐")},
    ),
    "space": Theme(
        group="science",
        subjects=("rocket", "satellite", "planet", "ufo"),
        places={
            "en": ("in space", "among the stars", "in orbit"),
            "zh": ("太空中", "星空里", "宇宙深处"),
        },
        tags={"en": ("space", "stars"), "zh": ("太空", "星空")},
    ),
    "aquarium": Theme(
        group="science",
        subjects=("fish", "turtle", "jellyfish"),
        places={
            "en": ("in the aquarium", "under water", "behind the glass"),
            "zh": ("水族馆", "水下", "鱼缸里"),
        },
        tags={"en": ("aquarium", "underwater"), "zh": ("水族馆", "水下世界")},
    ),
}


SUBJECTS = {
    "sailboat": Subject(
        "vehicle", {"en": ("sailboat", "yacht", "sailing boat"), "zh": ("帆船", "游艇", "小船")}
    ),
    "car": Subject(
        "vehicle", {"en": ("car", "sports car", "automobile"), "zh": ("汽车", "跑车", "小轿车")}
    ),
    "bus": Subject(
        "vehicle", {"en": ("bus", "coach", "minibus"), "zh": ("公交车", "巴士", "大客车")}
    ),
    "train": Subject(
        "vehicle", {"en": ("train", "locomotive", "express"), "zh": ("火车", "列车", "高铁")}
    ),
    "bird": Subject(
        "animal", {"en": ("bird", "sparrow", "flying bird"), "zh": ("小鸟", "飞鸟", "鸟儿")}
    ),
    "fish": Subject(
        "animal", {"en": ("fish", "goldfish", "little fish"), "zh": ("小鱼", "金鱼", "鱼儿")}
    ),
    "turtle": Subject(
        "animal", {"en": ("turtle", "tortoise", "old turtle"), "zh": ("海龟", "乌龟", "老龟")}
    ),
    "jellyfish": Subject("animal", {"en": ("jellyfish", "sea jelly"), "zh": ("水母", "透明水母")}),
    "dog": Subject(
        "animal", {"en": ("dog", "puppy", "good boy"), "zh": ("小狗", "狗狗", "汪星人")}
    ),
    "cat": Subject("animal", {"en": ("cat", "kitten", "kitty"), "zh": ("小猫", "猫咪", "喵星人")}),
    "rabbit": Subject(
        "animal", {"en": ("rabbit", "bunny", "hare"), "zh": ("兔子", "小白兔", "萌兔")}
    ),
    "deer": Subject("animal", {"en": ("deer", "stag", "fawn"), "zh": ("小鹿", "梅花鹿", "鹿群")}),
    "camel": Subject(
        "animal", {"en": ("camel", "dromedary", "caravan"), "zh": ("骆驼", "驼队", "双峰驼")}
    ),
    "butterfly": Subject(
        "animal", {"en": ("butterfly", "moth", "wings"), "zh": ("蝴蝶", "彩蝶", "飞蛾")}
    ),
    "balloon": Subject("flight", {"en": ("hot air balloon", "balloon"), "zh": ("热气球", "气球")}),
    "drone": Subject("flight", {"en": ("drone", "quadcopter"), "zh": ("无人机", "航拍机")}),
    "kite": Subject("flight", {"en": ("kite", "paper kite"), "zh": ("风筝", "纸鸢")}),
    "rocket": Subject(
        "spacecraft", {"en": ("rocket", "spaceship", "shuttle"), "zh": ("火箭", "飞船", "航天飞机")}
    ),
    "satellite": Subject(
        "spacecraft", {"en": ("satellite", "probe", "orbiter"), "zh": ("卫星", "探测器")}
    ),
    "ufo": Subject(
        "spacecraft", {"en": ("UFO", "flying saucer", "alien"), "zh": ("飞碟", "外星人")}
    ),
    "planet": Subject(
        "spacecraft", {"en": ("planet", "saturn", "ringed world"), "zh": ("行星", "土星")}
    ),
    "player": Subject(
        "person", {"en": ("player", "runner", "athlete"), "zh": ("运动员", "球员", "跑者")}
    ),
    "singer": Subject(
        "person", {"en": ("singer", "vocalist", "star"), "zh": ("歌手", "主唱", "歌星")}
    ),
    "ball": Subject(
        "thing", {"en": ("ball", "soccer ball", "penalty kick"), "zh": ("足球", "皮球", "点球")}
    ),
    "guitar": Subject(
        "thing", {"en": ("guitar", "electric guitar", "solo"), "zh": ("吉他", "电吉他")}
    ),
    "tomato": Subject(
        "thing", {"en": ("tomato", "vegetables", "salad"), "zh": ("西红柿", "番茄", "蔬菜")}
    ),
    "pot": Subject("thing", {"en": ("pot", "stew", "soup"), "zh": ("汤锅", "火锅", "炖菜")}),
}

# Tags for what titles rarely say.
MOOD_TAGS: dict[str, Synonyms] = {
    "day": {"en": ("sunny", "daytime"), "zh": ("晴天", "白天")},
    "sunset": {"en": ("sunset", "golden hour"), "zh": ("日落", "黄昏")},
    "night": {"en": ("night", "dark"), "zh": ("夜晚", "夜景")},
    "mist": {"en": ("fog", "mist"), "zh": ("大雾", "雾天")},
}
PATTERN_TAGS: dict[str, Synonyms] = {
    "straight": {"en": ("passing by",), "zh": ("路过",)},
    "circle": {"en": ("circling", "spinning"), "zh": ("转圈", "盘旋")},
    "bounce": {"en": ("jumping", "bouncing"), "zh": ("跳跃", "蹦跳")},
    "zigzag": {"en": ("zigzag", "wild"), "zh": ("曲折", "乱窜")},
}
SPEED_TAGS: dict[str, Synonyms] = {
    "slow": {"en": ("slow", "calm"), "zh": ("慢节奏", "悠闲")},
    "fast": {"en": ("fast", "speed"), "zh": ("快节奏", "速度")},
}
NOISE_TAGS: Synonyms = {
    "en": ("viral", "4k", "funny", "vlog", "trending", "relaxing", "must see", "daily"),
    "zh": ("热门", "搞笑", "记录", "推荐", "放松", "原创", "生活", "高清"),
}

# Titles, by how much they tell. {s} is a subject, {p} a place, {n} a small number.
TITLES: dict[str, Synonyms] = {
    "both": {
        "en": ("a {s} {p}", "{s} {p}", "the {s} we met {p}", "{p}: a {s}", "{s} seen {p}"),
        "zh": ("{p}的{s}", "{p}偶遇{s}", "在{p}看{s}", "{s}，{p}", "{p}拍到{s}了"),
    },
    "subject": {
        "en": ("watch this {s}", "{s} caught on camera", "my favourite {s}", "{s} part {n}"),
        "zh": ("快看{s}", "{s}来了", "拍到了{s}", "最喜欢的{s}", "{s} 第{n}集"),
    },
    "place": {
        "en": ("an afternoon {p}", "what a day {p}", "{p}, part {n}", "good morning {p}"),
        "zh": ("{p}的一天", "今天去了{p}", "{p}风景", "{p} 第{n}集"),
    },
    "nothing": {
        "en": (
            "you have to see this",
            "my video {n}",
            "vlog no. {n}",
            "so beautiful",
            "wait for it",
        ),
        "zh": ("随手拍{n}", "记录生活", "太美了吧", "一定要看到最后", "日常vlog {n}"),
    },
}
