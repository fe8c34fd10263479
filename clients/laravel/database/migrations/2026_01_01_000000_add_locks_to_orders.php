<?php

use Illuminate\Database\Migrations\Migration;
use Illuminate\Database\Schema\Blueprint;
use Illuminate\Support\Facades\Schema;

return new class extends Migration
{
    public function up(): void
    {
        Schema::table('orders', function (Blueprint $table) {
            $table->string('locked_by')->nullable();
            $table->unsignedBigInteger('lock_fence')->default(0);
        });
        Schema::create('holdline_inbox', function (Blueprint $table) {
            $table->string('event_id', 64)->primary();
            $table->timestamp('received_at')->index();
        });
    }

    public function down(): void
    {
        Schema::drop('holdline_inbox');
        Schema::table('orders', fn (Blueprint $table) => $table->dropColumn(['locked_by', 'lock_fence']));
    }
};
